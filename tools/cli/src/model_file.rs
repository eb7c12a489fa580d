//! Where a model's bytes come from: a `.palm` file, or a checkpoint folder converted on the fly.
//!
//! Bytes land in memory aligned to 16, and every CRC is checked before anything is computed.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use palmtop::Model;
use palmtop::format::{ALIGN, FormatError};
use palmtop_convert::{ConvertError, Options, Weights, convert};

use crate::args::ModelArgs;
use crate::experts::Experts;
use crate::failure::{Failure, failed, misused};
use crate::progress::ConversionBar;

/// A flash image in memory, at an address that is a multiple of 16.
#[derive(Debug)]
pub struct Image {
    blocks: Vec<u128>,
    len: usize,
    path: PathBuf,
    converted: bool,
}

impl Image {
    /// Reads the file, or converts the folder, that the arguments name.
    pub fn load(args: &ModelArgs) -> Result<Self> {
        let path = &args.path;
        let metadata =
            std::fs::metadata(path).with_context(|| format!("cannot open {}", path.display()))?;
        if metadata.is_dir() {
            let weights = args.weights.map_or(Weights::Int8, Weights::from);
            return Self::convert(path, weights);
        }
        if args.weights.is_some() {
            return Err(misused(format!(
                "--weights says how to convert a checkpoint folder, but {} is a file",
                path.display()
            ))
            .help("leave --weights out, or give the checkpoint's folder")
            .into());
        }
        Self::read(path, metadata.len())
    }

    fn convert(folder: &Path, weights: Weights) -> Result<Self> {
        let options = Options {
            weights,
            ..Options::default()
        };
        let mut bar = ConversionBar::new();
        let converted = convert(folder, &options, &mut bar);
        bar.finish();
        let converted = converted.map_err(|error| not_converted(folder, &error))?;
        let mut image = Self::from_bytes(&converted.bytes, folder);
        image.converted = true;
        Ok(image)
    }

    /// An image of these bytes, that `path` stands for.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Self {
        let blocks = vec![0u128; bytes.len().div_ceil(ALIGN)];
        let mut image = Self {
            blocks,
            len: bytes.len(),
            path: path.to_owned(),
            converted: false,
        };
        image.bytes_mut().copy_from_slice(bytes);
        image
    }

    fn read(path: &Path, len: u64) -> Result<Self> {
        let name = path.display();
        let Ok(len) = u32::try_from(len) else {
            return Err(failed(format!(
                "{name} is {len} bytes long: a .palm file has at most 4 GiB"
            ))
            .help("give a .palm file made by `palmtop convert`, or a checkpoint folder")
            .into());
        };
        let mut file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        let mut image = Self::from_bytes(&[], path);
        let blocks = (len as usize).div_ceil(ALIGN);
        image.blocks.try_reserve_exact(blocks).map_err(|_| {
            failed(format!(
                "this machine has no memory for {name}: {len} bytes"
            ))
        })?;
        image.blocks.resize(blocks, 0);
        image.len = len as usize;
        file.read_exact(image.bytes_mut())
            .with_context(|| format!("cannot read {name}"))?;
        Ok(image)
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.blocks)[..self.len]
    }

    /// The image.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.blocks)[..self.len]
    }

    /// The path that the user gave.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the image was made from a checkpoint folder just now.
    pub fn is_converted(&self) -> bool {
        self.converted
    }

    /// The model, after every field of its tables and every CRC has been checked.
    pub fn model(&self) -> Result<Model<'_>> {
        let model = Model::parse(self.bytes()).map_err(|error| self.refused(error))?;
        model.palm().verify().map_err(|error| self.refused(error))?;
        Ok(model)
    }

    /// The experts of that model.
    pub fn experts<'m>(&'m self, model: &Model<'m>) -> Result<Experts<'m>> {
        Ok(Experts::mapped(model.palm()))
    }

    fn refused(&self, error: FormatError) -> Failure {
        let help = match error {
            FormatError::Magic => {
                let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty());
                match (self.path.extension().and_then(|e| e.to_str()), folder) {
                    (Some("safetensors" | "json"), Some(folder)) => {
                        format!("for a checkpoint, give its folder: {}", folder.display())
                    }
                    (Some("safetensors" | "json"), None) => {
                        "for a checkpoint, give its folder: .".to_owned()
                    }
                    _ => "give a .palm file made by `palmtop convert`, or a checkpoint folder"
                        .to_owned(),
                }
            }
            FormatError::Version { .. } => {
                "convert the checkpoint again with this palmtop, or use the palmtop that wrote it"
                    .to_owned()
            }
            FormatError::Truncated { .. } | FormatError::TrailingBytes { .. } => {
                "the copy is not complete: copy the file again, or convert its checkpoint again"
                    .to_owned()
            }
            _ => "copy the file again, or convert its checkpoint again with `palmtop convert`"
                .to_owned(),
        };
        failed(format!("cannot use {}: {error}", self.path.display())).help(help)
    }
}

/// The converter's messages name the file, the place and the remedy already.
pub fn not_converted(folder: &Path, error: &ConvertError) -> Failure {
    failed(format!("cannot convert {}: {error}", folder.display()))
}
