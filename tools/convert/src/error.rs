//! Everything that can be wrong with a checkpoint. Each message names the file, the field or
//! tensor in it, and what to do about it.

use palmtop::format::FormatError;

/// Why a folder is not converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// A file cannot be read.
    #[error(
        "{file}: cannot be read: {source}; give a folder as save_pretrained writes it, with config.json and model.safetensors"
    )]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The folder has no weights that this library reads.
    #[error(
        "{folder}: there is neither model.safetensors nor model.safetensors.index.json; save the model with save_pretrained(folder, safe_serialization=True)"
    )]
    NoWeights {
        /// The folder.
        folder: String,
    },
    /// The weights are pickled: reading them would run code from the file.
    #[error(
        "{file}: pickled weights are not read; load the model in Python and save it again with save_pretrained(folder, safe_serialization=True)"
    )]
    Pickled {
        /// The file.
        file: String,
    },
    /// A file is not the JSON it should be.
    #[error("{file}: not valid JSON: {problem}; download or save the file again")]
    Json {
        /// The file.
        file: String,
        /// What is wrong, with line and column.
        problem: String,
    },
    /// A field has a value that is not supported, or not a value of its kind.
    #[error("{file}: field `{field}` is {found}: {remedy}")]
    Field {
        /// The file.
        file: String,
        /// The field.
        field: String,
        /// Its value.
        found: String,
        /// What would do.
        remedy: String,
    },
    /// No converter for this kind of model.
    #[error(
        "{file}: field `{field}` is {found}, which is not supported; supported are {supported}"
    )]
    Architecture {
        /// The file.
        file: String,
        /// `architectures` or `model_type`.
        field: &'static str,
        /// Its value.
        found: String,
        /// All that is supported.
        supported: String,
    },
    /// A safetensors file is damaged.
    #[error("{file}: not a whole safetensors file: {problem}; download or save it again")]
    Safetensors {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The index of a sharded checkpoint names something that is not there.
    #[error("{file}: {problem}; {remedy}")]
    Shard {
        /// The index.
        file: String,
        /// What is wrong.
        problem: String,
        /// What would help.
        remedy: &'static str,
    },
    /// A tensor that the configuration asks for is not there.
    #[error(
        "{file}: tensor `{tensor}` {shape:?} is missing; the weights do not belong to this config.json, or were saved from a model without it"
    )]
    MissingTensor {
        /// The weight file, or the index.
        file: String,
        /// The tensor.
        tensor: String,
        /// The shape that it should have.
        shape: Vec<usize>,
    },
    /// A tensor has another shape than the configuration asks for.
    #[error(
        "{file}: tensor `{tensor}` has shape {found:?}, config.json asks for {expected:?}; take weights and config.json from the same model"
    )]
    Shape {
        /// The weight file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The shape that it has.
        found: Vec<usize>,
        /// The shape that it should have.
        expected: Vec<usize>,
    },
    /// A tensor's values are of a type that is not read.
    #[error(
        "{file}: tensor `{tensor}` is {dtype}; F32, F16 and BF16 are read: load the model in Python with torch_dtype=torch.float32 and save it again"
    )]
    Dtype {
        /// The weight file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: String,
    },
    /// A tensor holds NaN or an infinity.
    #[error(
        "{file}: tensor `{tensor}` holds {value} at element {element}; training has diverged, or the file is damaged: take an earlier checkpoint"
    )]
    NotFinite {
        /// The weight file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Index of the first such value.
        element: usize,
        /// The value.
        value: f32,
    },
    /// Tensors that the model does not have.
    #[error(
        "{file}: tensor {tensors} is unknown to {architecture}: it would be lost; save the plain model (merge adapters, remove extra heads)"
    )]
    UnknownTensors {
        /// The weight file, or the index.
        file: String,
        /// The first few of them.
        tensors: String,
        /// The architecture that does not know them.
        architecture: String,
    },
    /// Tensors that should be one tensor differ.
    #[error("{file}: tensors `{first}` and `{second}` differ, but the model keeps one: {remedy}")]
    Differ {
        /// The weight file, or the index.
        file: String,
        /// One tensor.
        first: String,
        /// The other.
        second: String,
        /// What would help.
        remedy: &'static str,
    },
    /// A value that f16 cannot hold.
    #[error(
        "{file}: tensor `{tensor}` holds {value}, which f16 cannot hold (at most 65504); convert with --weights f32 or --weights int8"
    )]
    F16Range {
        /// The weight file, or the index.
        file: String,
        /// The tensor.
        tensor: String,
        /// The value.
        value: f32,
    },
    /// A value that is too large for a group of an int4 matrix.
    #[error(
        "{file}: tensor `{tensor}` holds {value}, too large for int4, whose scales are f16 (at most 524000); store that expert otherwise, with --expert STACK.LAYER.EXPERT=int8"
    )]
    Int4Range {
        /// The weight file, or the index.
        file: String,
        /// The tensor.
        tensor: String,
        /// The value.
        value: f32,
    },
    /// A rule for experts' formats that names no expert.
    #[error("option --expert {rule}: no such expert; {remedy}")]
    NoSuchExpert {
        /// The rule.
        rule: String,
        /// What there is.
        remedy: String,
    },
    /// A table of whole numbers has values of another type, or values out of range.
    #[error("{file}: tensor `{tensor}` {problem}; {remedy}")]
    Table {
        /// The weight file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What is wrong.
        problem: String,
        /// What would do.
        remedy: String,
    },
    /// A file cannot be written.
    #[error("{file}: cannot be written: {source}; check the folder and the space that is left")]
    Write {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A size that the file format cannot state.
    #[error(
        "{what} is {found}, more than the {most} that a .palm file can state; choose a smaller model"
    )]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size.
        found: u64,
        /// The greatest size.
        most: u64,
    },
    /// A limit that was asked for and that the model cannot take.
    #[error("option {option} is {found}: {remedy}")]
    Limit {
        /// The option.
        option: &'static str,
        /// Its value.
        found: u32,
        /// What would do.
        remedy: String,
    },
    /// The image that was made does not pass its own check. This is a fault of the converter.
    #[error(
        "the converted file does not pass its own check ({0}); please report this with the folder's config.json"
    )]
    SelfCheck(FormatError),
    /// The converted model cannot be run. This is a fault of the converter.
    #[error(
        "the converted model does not run ({0}); please report this with the folder's config.json"
    )]
    SelfRun(String),
}

impl ConvertError {
    /// Names the weight file where the place of the fault could not know it.
    pub(crate) fn in_file(mut self, list: &str) -> Self {
        if let Self::F16Range { file, .. } | Self::Int4Range { file, .. } = &mut self {
            list.clone_into(file);
        }
        self
    }
}
