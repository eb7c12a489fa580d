//! Copies of fixture folders, to be broken.
#![allow(dead_code)]

pub mod made;

use std::path::{Path, PathBuf};

use palmtop::{Model, Session};
use serde_json::{Map, Value};
use tempfile::TempDir;

pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The folder tests/fixtures of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// Folders with a config.json under tests/fixtures.
pub fn fixtures() -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(root())? {
        let folder = entry?.path();
        if folder.join("config.json").exists() {
            folders.push(folder);
        }
    }
    folders.sort();
    assert!(!folders.is_empty());
    Ok(folders)
}

/// A copy of a fixture in a folder of its own, gone when dropped.
pub struct Folder(TempDir);

impl From<TempDir> for Folder {
    fn from(folder: TempDir) -> Self {
        Self(folder)
    }
}

impl Folder {
    pub fn copy_of(fixture: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        for entry in std::fs::read_dir(root().join(fixture))? {
            let path = entry?.path();
            if let Some(name) = path.file_name() {
                std::fs::copy(&path, folder.path().join(name))?;
            }
        }
        Ok(Self(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> Result {
        Ok(std::fs::write(self.file(name), text)?)
    }

    /// Changes a JSON file's outermost object.
    pub fn edit_json(&self, name: &str, edit: impl FnOnce(&mut Map<String, Value>)) -> Result {
        let path = self.file(name);
        let mut json: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        edit(json.as_object_mut().ok_or("not an object")?);
        Ok(std::fs::write(path, json.to_string())?)
    }

    /// Sets one field of config.json.
    pub fn set(&self, field: &str, value: Value) -> Result {
        self.edit_json("config.json", |config| {
            config.insert(field.to_owned(), value);
        })
    }

    /// Changes header and data of a safetensors file.
    pub fn edit_tensors(
        &self,
        name: &str,
        edit: impl FnOnce(&mut Map<String, Value>, &mut Vec<u8>),
    ) -> Result {
        let path = self.file(name);
        let bytes = std::fs::read(&path)?;
        let (len, rest) = bytes.split_first_chunk::<8>().ok_or("short")?;
        let (header, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*len))?);
        let mut header: Value = serde_json::from_slice(header)?;
        let mut data = data.to_vec();
        edit(header.as_object_mut().ok_or("not an object")?, &mut data);
        let header = header.to_string();
        let mut out = (header.len() as u64).to_le_bytes().to_vec();
        out.extend(header.as_bytes());
        out.extend(data);
        Ok(std::fs::write(path, out)?)
    }
}

/// Copies bytes to memory at a multiple of 16.
pub fn aligned(bytes: &[u8]) -> Vec<u128> {
    let mut memory = vec![0; bytes.len().div_ceil(16)];
    bytemuck::cast_slice_mut(&mut memory)[..bytes.len()].copy_from_slice(bytes);
    memory
}

/// Checks every CRC of an image and runs its golden input.
pub fn self_test(bytes: &[u8]) -> Result {
    let memory = aligned(bytes);
    let image = &bytemuck::cast_slice(&memory)[..bytes.len()];
    let model = Model::parse(image)?;
    model.palm().verify()?;
    let limits = model.default_limits();
    assert_eq!(
        model.palm().header().plan_arena as usize,
        model.arena_bytes(limits)
    );
    let mut arena = vec![0u128; model.arena_bytes(limits).div_ceil(16)];
    let mut session = Session::new(model, limits, bytemuck::cast_slice_mut(&mut arena))?;
    Ok(session.self_test(&mut [0; 64])?)
}

/// Where a tensor's data begin.
pub fn start_of(header: &Map<String, Value>, tensor: &str) -> usize {
    header[tensor]["data_offsets"][0]
        .as_u64()
        .unwrap_or(u64::MAX) as usize
}
