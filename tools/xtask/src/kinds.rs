//! Kinds of work, by the function that does it.

use serde::Serialize;

use crate::watch::{HELPER, OTHER, Phase, STICKY, THROUGH, UNIT};

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Products of int8 matrices with quantized rows.
    Products,
    /// Quantization of activations, for linear layers and for the KV cache.
    Quantize,
    /// What becomes of the products of a linear layer: scales, biases, residual sums.
    Epilogue,
    /// Scores, softmax and the sum of the values.
    Attention,
    /// Norms.
    Norms,
    /// Activation functions.
    Activations,
    /// Routers and the dispatch of tokens.
    Routing,
    /// The final norm of a step, the head's products and all that belongs to them.
    Head,
    /// The rest: embedding, reading of records, copies, arg max.
    Rest,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Products,
        Self::Quantize,
        Self::Epilogue,
        Self::Attention,
        Self::Norms,
        Self::Activations,
        Self::Routing,
        Self::Head,
        Self::Rest,
    ];

    /// Its name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Products => "products",
            Self::Quantize => "quantize",
            Self::Epilogue => "epilogue",
            Self::Attention => "attention",
            Self::Norms => "norms",
            Self::Activations => "activations",
            Self::Routing => "routing",
            Self::Head => "head",
            Self::Rest => "rest",
        }
    }

    /// Its code for the plugin.
    fn code(self) -> u8 {
        match self {
            Self::Products => 10,
            Self::Quantize => 11,
            Self::Epilogue => 12,
            Self::Attention => 13,
            Self::Norms => 14,
            Self::Activations => 15,
            Self::Routing => 16,
            Self::Head => STICKY,
            Self::Rest => OTHER,
        }
    }

    fn of_code(code: u8) -> Self {
        let found = Self::ALL.into_iter().find(|kind| kind.code() == code);
        found.unwrap_or(Self::Rest)
    }
}

/// Parts of mangled names (a length before each word) and what functions with them are. The first
/// that fits holds.
const NAMES: [(&[&str], u8); 35] = [
    (&["palmtop5model6decode", "4head"], STICKY),
    (&["palmtop5model6decode"], UNIT),
    (&["palmtop5model6encode"], UNIT),
    (&["palmtop5model7session"], UNIT),
    (&["palmtop_firmware"], UNIT),
    (&["compiler_builtins", "3mem"], THROUGH),
    (&["compiler_builtins"], HELPER),
    (&["__aeabi_mem"], THROUGH),
    (&["__aeabi_"], HELPER),
    (&["libm"], HELPER),
    (&["7kernels4soft"], HELPER),
    // Called for several kinds.
    (&["7kernels4math"], THROUGH),
    (&["7kernels5float3sum"], THROUGH),
    (&["7kernels6matmul"], 10),
    (&["7kernels7integer", "dot"], 10),
    (&["7kernels4int4"], 10),
    (&["7kernels5float3dot"], 10),
    (&["7kernels5float"], 14),
    // Kernels in assembly.
    (&["palmtop_mark"], UNIT),
    (&["palmtop_", "prepare"], 11),
    (&["palmtop_quantize"], 11),
    (&["palmtop_weighted"], 13),
    (&["7kernels7integer", "weighted"], 13),
    (&["palmtop_", "_put"], 12),
    (&["palmtop_"], 10),
    (&["7kernels7integer"], 11),
    (&["7kernels5lanes"], 11),
    (&["6layers4tile"], 11),
    (&["6layers8kv_cache"], 11),
    (&["6tensor6linear"], 12),
    (&["7kernels7softmax"], 13),
    (&["6layers9attention"], 13),
    (&["6layers8position"], 13),
    (&["6layers4norm"], 14),
    (&["6layers7mixture"], 16),
];

/// The plugin's kind of a function with this mangled name.
pub fn of_function(name: &str) -> u8 {
    let fits = |parts: &[&str]| parts.iter().all(|part| name.contains(part));
    if fits(&["7kernels5float", "dot_rows"]) || fits(&["7kernels5float", "add_chunk"]) {
        return Kind::Products.code();
    }
    if fits(&["7kernels10activation"]) || fits(&["11FeedForward"]) {
        return Kind::Activations.code();
    }
    // The names that compilers give to their float routines, unmangled: __addsf3, __fixsfsi, …
    if name.starts_with("__") && name.contains("sf") {
        return HELPER;
    }
    let found = NAMES.iter().find(|(parts, _)| fits(parts));
    found.map_or(OTHER, |(_, kind)| *kind)
}

/// Instructions of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// By kind, in the order of [`Kind::ALL`].
    pub all: [u64; Kind::ALL.len()],
    /// Those of them in helpers: float emulation.
    pub helpers: [u64; Kind::ALL.len()],
}

impl Split {
    /// Of some phases together.
    pub fn of(phases: &[Phase]) -> Self {
        let mut split = Self::default();
        for &(code, all, helpers) in phases.iter().flat_map(|phase| &phase.kinds) {
            let kind = Kind::of_code(code);
            let index = Kind::ALL.iter().position(|other| *other == kind);
            if let Some(index) = index {
                split.all[index] += all;
                split.helpers[index] += helpers;
            }
        }
        split
    }

    /// All instructions.
    pub fn total(&self) -> u64 {
        self.all.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_kinds() {
        for (name, kind) in [
            ("_ZN7palmtop7kernels6matmul4dots17h5E", Kind::Products),
            ("_ZN7palmtop7kernels5float8dot_rows17h5E", Kind::Products),
            ("_ZN7palmtop7kernels7integer8quantize17h5E", Kind::Quantize),
            ("_ZN7palmtop6tensor6linear6linear17h4E", Kind::Epilogue),
            ("_ZN7palmtop7kernels5float8rms_norm17h4E", Kind::Norms),
            (
                "_ZN7palmtop6layers12feed_forward11FeedForward5apply17hE",
                Kind::Activations,
            ),
            (
                "_ZN7palmtop5model6decode16Decoder$LT$S$GT$4head17hE",
                Kind::Head,
            ),
            (
                "_ZN7palmtop6format7records12TensorRecord4read17hE",
                Kind::Rest,
            ),
        ] {
            assert_eq!(Kind::of_code(of_function(name)), kind, "{name}");
        }
        assert_eq!(of_function("__aeabi_fmul"), HELPER);
        assert_eq!(of_function("_ZN7palmtop7kernels4math3exp17hE"), THROUGH);
    }
}
