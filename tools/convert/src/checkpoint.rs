//! Reads a Hugging Face folder: configuration and safetensors, single or sharded. Values become
//! f32; every tensor that is taken is remembered, so that what is left over can be refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::Progress;
use crate::config::Config;
use crate::error::ConvertError;
use crate::map::map_path;

/// A folder that has been opened; its tensors are read when they are taken.
pub(crate) struct Checkpoint<'p> {
    pub folder: PathBuf,
    pub config: Config,
    pub generation: Option<Config>,
    shards: Vec<Shard>,
    /// Tensor → its shard and its place in it.
    tensors: BTreeMap<String, Place>,
    taken: BTreeSet<String>,
    /// The file that lists the tensors: the weight file or the index.
    list: String,
    progress: &'p mut dyn Progress,
    pub notes: Vec<String>,
}

struct Shard {
    file: String,
    map: Mmap,
}

#[derive(Clone)]
struct Place {
    shard: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    /// First byte in the shard.
    start: usize,
    len: usize,
}

impl<'p> Checkpoint<'p> {
    /// Opens a folder and reads all headers.
    pub fn open(folder: &Path, progress: &'p mut dyn Progress) -> Result<Self, ConvertError> {
        let config = Config::read(&folder.join("config.json"))?;
        let generation = Config::read_optional(&folder.join("generation_config.json"))?;
        let (list, paths) = weight_files(folder)?;
        let mut checkpoint = Self {
            folder: folder.to_owned(),
            config,
            generation,
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            taken: BTreeSet::new(),
            list: list.path.display().to_string(),
            progress,
            notes: Vec::new(),
        };
        for path in paths {
            checkpoint.open_shard(&path)?;
        }
        checkpoint.check_index(&list)?;
        let total = checkpoint
            .tensors
            .values()
            .map(|place| place.len as u64)
            .sum();
        checkpoint.progress.start(total);
        Ok(checkpoint)
    }

    fn open_shard(&mut self, path: &Path) -> Result<(), ConvertError> {
        let file = path.display().to_string();
        let map = map_path(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::InvalidInput => ConvertError::Safetensors {
                file: file.clone(),
                problem: source.to_string(),
            },
            _ => ConvertError::Read {
                file: file.clone(),
                source,
            },
        })?;
        let damaged = |problem: String| ConvertError::Safetensors {
            file: file.clone(),
            problem,
        };
        let shard = self.shards.len();
        let parsed = SafeTensors::deserialize(&map).map_err(|error| damaged(error.to_string()))?;
        for (name, view) in parsed.iter() {
            let data = view.data();
            // The view borrows from the map, so this distance is its place in it.
            let start = data.as_ptr().addr().wrapping_sub(map.as_ptr().addr());
            let place = Place {
                shard,
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
                start,
                len: data.len(),
            };
            if self.tensors.insert(name.to_owned(), place).is_some() {
                return Err(damaged(format!(
                    "tensor `{name}` is in an earlier shard too"
                )));
            }
        }
        self.shards.push(Shard { file, map });
        Ok(())
    }

    /// Every tensor that an index names is there.
    fn check_index(&self, list: &List) -> Result<(), ConvertError> {
        let missing = list
            .names
            .iter()
            .find(|(name, _)| !self.tensors.contains_key(*name));
        match missing {
            None => Ok(()),
            Some((name, shard)) => Err(ConvertError::Shard {
                file: self.list.clone(),
                problem: format!("tensor `{name}` should be in {shard} and is not"),
                remedy: "download or save all shards again",
            }),
        }
    }

    /// The file that lists the tensors, as messages name it.
    pub fn list_file(&self) -> &str {
        &self.list
    }

    /// Whether a tensor is there.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Where a tensor lies: its file, type and bytes.
    fn find(&self, name: &str, shape: &[usize]) -> Result<(&str, Dtype, &[u8]), ConvertError> {
        let Some(place) = self.tensors.get(name) else {
            return Err(ConvertError::MissingTensor {
                file: self.list.clone(),
                tensor: name.to_owned(),
                shape: shape.to_vec(),
            });
        };
        let Some(shard) = self.shards.get(place.shard) else {
            return Ok(("", place.dtype, &[]));
        };
        if place.shape != shape {
            return Err(ConvertError::Shape {
                file: shard.file.clone(),
                tensor: name.to_owned(),
                found: place.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        let bytes = shard
            .map
            .get(place.start..place.start.saturating_add(place.len))
            .unwrap_or_default();
        Ok((&shard.file, place.dtype, bytes))
    }

    /// Remembers that a tensor was taken.
    fn mark(&mut self, name: &str) {
        let len = self.tensors.get(name).map_or(0, |place| place.len as u64);
        if self.taken.insert(name.to_owned()) {
            self.progress.advance(len, name);
        }
    }

    /// A table of whole numbers below `limit` and at most 255.
    ///
    /// # Errors
    /// If it is missing, has another shape or type, or a greater value.
    pub fn take_bytes(
        &mut self,
        name: &str,
        shape: &[usize],
        limit: usize,
    ) -> Result<Vec<u8>, ConvertError> {
        let (file, dtype, bytes) = self.find(name, shape)?;
        let refuse = |problem: String, remedy: String| ConvertError::Table {
            file: file.to_owned(),
            tensor: name.to_owned(),
            problem,
            remedy,
        };
        let Some(numbers) = whole_numbers(bytes, dtype) else {
            let problem = format!("is {dtype:?}");
            let remedy = "save it as a table of U8, I32 or I64".to_owned();
            return Err(refuse(problem, remedy));
        };
        let narrow = |number: &i64| {
            u8::try_from(*number)
                .ok()
                .filter(|n| usize::from(*n) < limit)
        };
        let values: Vec<u8> = numbers.iter().map_while(narrow).collect();
        if let Some(found) = numbers.get(values.len()) {
            let problem = format!("holds {found} at element {}", values.len());
            let most = limit.min(256) - 1;
            return Err(refuse(
                problem,
                format!("whole numbers from 0 to {most} are wanted"),
            ));
        }
        self.mark(name);
        Ok(values)
    }

    /// A tensor's values as f32.
    ///
    /// # Errors
    /// If it is missing, has another shape or an unknown type, or holds NaN or an infinity.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ConvertError> {
        let (file, dtype, bytes) = self.find(name, shape)?;
        let (file, tensor) = (file.to_owned(), name.to_owned());
        let Some(values) = widen(bytes, dtype) else {
            return Err(ConvertError::Dtype {
                file,
                tensor,
                dtype: format!("{dtype:?}"),
            });
        };
        let bad = values
            .iter()
            .enumerate()
            .find(|(_, value)| !value.is_finite());
        if let Some((element, &value)) = bad {
            return Err(ConvertError::NotFinite {
                file,
                tensor,
                element,
                value,
            });
        }
        self.mark(name);
        Ok(values)
    }

    /// Passes over a tensor that transformers ignores too.
    pub fn skip(&mut self, name: &str, why: &str) {
        if self.has(name) && !self.taken.contains(name) {
            self.mark(name);
            self.note(format!("tensor `{name}` is not used: {why}"));
        }
    }

    /// Remembers what the user should know.
    pub fn note(&mut self, note: String) {
        self.progress.note(&note);
        self.notes.push(note);
    }

    /// Refuses tensors that nobody took.
    pub fn finish(&self, architecture: &str) -> Result<(), ConvertError> {
        let left: Vec<&str> = self
            .tensors
            .keys()
            .filter(|name| !self.taken.contains(*name))
            .map(String::as_str)
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        let shown: Vec<String> = left
            .iter()
            .take(4)
            .map(|name| format!("`{name}`"))
            .collect();
        let more = match left.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Err(ConvertError::UnknownTensors {
            file: self.list.clone(),
            tensors: shown.join(", ") + &more,
            architecture: architecture.to_owned(),
        })
    }
}

/// Values of a type of whole numbers; nothing for another type.
fn whole_numbers(bytes: &[u8], dtype: Dtype) -> Option<Vec<i64>> {
    let (fours, _) = bytes.as_chunks::<4>();
    let (eights, _) = bytes.as_chunks::<8>();
    match dtype {
        Dtype::U8 => Some(bytes.iter().map(|byte| i64::from(*byte)).collect()),
        Dtype::I32 => Some(
            fours
                .iter()
                .map(|b| i64::from(i32::from_le_bytes(*b)))
                .collect(),
        ),
        Dtype::I64 => Some(eights.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        _ => None,
    }
}

/// Values as f32, exactly; nothing for a type that is not read.
fn widen(bytes: &[u8], dtype: Dtype) -> Option<Vec<f32>> {
    let halves = || {
        bytes
            .as_chunks::<2>()
            .0
            .iter()
            .copied()
            .map(u16::from_le_bytes)
    };
    match dtype {
        Dtype::F32 => Some(
            bytes
                .as_chunks::<4>()
                .0
                .iter()
                .copied()
                .map(f32::from_le_bytes)
                .collect(),
        ),
        Dtype::F16 => Some(
            halves()
                .map(|bits| half::f16::from_bits(bits).to_f32())
                .collect(),
        ),
        Dtype::BF16 => Some(
            halves()
                .map(|bits| half::bf16::from_bits(bits).to_f32())
                .collect(),
        ),
        _ => None,
    }
}

/// Where the tensors are listed, and the shard of each if that is an index.
struct List {
    path: PathBuf,
    names: BTreeMap<String, String>,
}

/// The weight file, or the index with its shards.
fn weight_files(folder: &Path) -> Result<(List, Vec<PathBuf>), ConvertError> {
    let single = folder.join("model.safetensors");
    if single.exists() {
        return Ok((
            List {
                path: single.clone(),
                names: BTreeMap::new(),
            },
            vec![single],
        ));
    }
    let index = folder.join("model.safetensors.index.json");
    if index.exists() {
        return sharded(folder, &index);
    }
    for pickled in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
        let path = folder.join(pickled);
        if path.exists() {
            return Err(ConvertError::Pickled {
                file: path.display().to_string(),
            });
        }
    }
    Err(ConvertError::NoWeights {
        folder: folder.display().to_string(),
    })
}

fn sharded(folder: &Path, index: &Path) -> Result<(List, Vec<PathBuf>), ConvertError> {
    let json = Config::read(index)?;
    let Some(Value::Object(entries)) = json.get("weight_map") else {
        return Err(json.refuse(
            "weight_map",
            "an object of tensor names and shards is wanted",
        ));
    };
    let refuse = |problem: String, remedy| ConvertError::Shard {
        file: json.file().to_owned(),
        problem,
        remedy,
    };
    let mut names = BTreeMap::new();
    let mut paths = BTreeMap::new();
    for (name, shard) in entries {
        let Some(shard) = shard.as_str() else {
            return Err(refuse(
                format!("tensor `{name}` has {shard} for a shard"),
                "a file name is wanted",
            ));
        };
        let mut parts = Path::new(shard).components();
        let plain = matches!(
            (parts.next(), parts.next()),
            (Some(Component::Normal(_)), None)
        );
        if !plain || shard.contains(['/', '\\', '\0']) {
            return Err(refuse(
                format!("tensor `{name}` names shard `{shard}`, which is not a plain file name"),
                "shards lie beside the index",
            ));
        }
        let path = folder.join(shard);
        if !path.is_file() {
            return Err(refuse(
                format!("shard {shard} is missing"),
                "download or save all shards again",
            ));
        }
        names.insert(name.clone(), shard.to_owned());
        paths.insert(shard.to_owned(), path);
    }
    let list = List {
        path: index.to_owned(),
        names,
    };
    Ok((list, paths.into_values().collect()))
}
