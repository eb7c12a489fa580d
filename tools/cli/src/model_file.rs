//! Where a model's bytes come from: a `.palm` file, or a checkpoint folder converted on the fly.
//!
//! Bytes land in memory aligned to 16, and every CRC is checked before anything is computed. With
//! `--slots` only what stands before the experts is read and checked; they stay in the file.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use palmtop::Model;
use palmtop::format::{ALIGN, FormatError, HEADER_LEN, Palm};
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
    paged: Option<(File, usize)>,
}

impl Image {
    /// Reads the file, or converts the folder, that the arguments name.
    pub fn load(args: &ModelArgs) -> Result<Self> {
        let path = &args.path;
        let metadata =
            std::fs::metadata(path).with_context(|| format!("cannot open {}", path.display()))?;
        if metadata.is_dir() {
            if args.slots.is_some() {
                return Err(misused(format!(
                    "--slots reads experts from a .palm file, but {} is a folder",
                    path.display()
                ))
                .help("convert it first: palmtop convert CHECKPOINT_DIR -o MODEL.palm")
                .into());
            }
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
        match args.slots {
            Some(slots) => Self::read_resident(path, metadata.len(), slots as usize),
            None => Self::read(path, metadata.len()),
        }
    }

    /// A whole file.
    pub fn file(path: &Path) -> Result<Self> {
        let metadata =
            std::fs::metadata(path).with_context(|| format!("cannot open {}", path.display()))?;
        Self::read(path, metadata.len())
    }

    /// The whole image, even if its experts are to be read from the file in a run.
    pub fn load_whole(args: &ModelArgs) -> Result<Self> {
        Self::load(&ModelArgs {
            slots: None,
            ..args.clone()
        })
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
            paged: None,
        };
        image.bytes_mut().copy_from_slice(bytes);
        image
    }

    fn read(path: &Path, len: u64) -> Result<Self> {
        let len = at_most_4_gib(path, len)?;
        let mut file = open(path)?;
        let mut image = Self::from_bytes(&[], path);
        image.fill(&mut file, len)?;
        Ok(image)
    }

    /// Reads the file up to its experts; they are read when they are needed.
    fn read_resident(path: &Path, len: u64, slots: usize) -> Result<Self> {
        let len = at_most_4_gib(path, len)?;
        let mut file = open(path)?;
        let mut image = Self::from_bytes(&[], path);
        image.fill(&mut file, len.min(HEADER_LEN as u32))?;
        let parsed = Palm::total_len(image.bytes())
            .and_then(|total| Ok((total, Palm::resident_len(image.bytes())?)));
        let (total, resident) = parsed.map_err(|error| image.refused(error))?;
        match total.cmp(&len) {
            Ordering::Greater => {
                let error = FormatError::Truncated {
                    needed: total,
                    got: len,
                };
                return Err(image.refused(error).into());
            }
            Ordering::Less => {
                let error = FormatError::TrailingBytes { total };
                return Err(image.refused(error).into());
            }
            Ordering::Equal => {}
        }
        file.rewind()
            .with_context(|| format!("cannot read {}", path.display()))?;
        // A header that is damaged may state anything.
        image.fill(&mut file, resident.min(len))?;
        image.paged = Some((file, slots));
        Ok(image)
    }

    /// Reads this many bytes.
    fn fill(&mut self, file: &mut File, len: u32) -> Result<()> {
        let name = self.path.display();
        let blocks = (len as usize).div_ceil(ALIGN);
        let more = blocks.saturating_sub(self.blocks.len());
        self.blocks.try_reserve_exact(more).map_err(|_| {
            failed(format!(
                "this machine has no memory for {name}: {len} bytes"
            ))
        })?;
        self.blocks.resize(blocks, 0);
        self.len = len as usize;
        let bytes = &mut bytemuck::cast_slice_mut(&mut self.blocks)[..self.len];
        file.read_exact(bytes)
            .with_context(|| format!("cannot read {name}"))
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

    /// The model, after every field of its tables and every CRC has been checked; of experts that
    /// are read from the file, each at every load.
    pub fn model(&self) -> Result<Model<'_>> {
        let parsed = match self.paged {
            Some(_) => Model::parse_resident(self.bytes()),
            None => Model::parse(self.bytes()),
        };
        let model = parsed.map_err(|error| self.refused(error))?;
        model.palm().verify().map_err(|error| self.refused(error))?;
        Ok(model)
    }

    /// The experts of that model.
    pub fn experts<'m>(&'m self, model: &Model<'m>) -> Result<Experts<'m>> {
        let (file, slots) = match &self.paged {
            Some((file, slots)) if model.palm().header().experts.count > 0 => (file, *slots),
            paged => {
                if paged.is_some() {
                    eprintln!("note: --slots: the model has no experts, all of it is in memory");
                }
                return Ok(Experts::mapped(model.palm()));
            }
        };
        let name = self.path.display();
        let file = file
            .try_clone()
            .with_context(|| format!("cannot open {name} twice"))?;
        Ok(Experts::paged(model, file, slots)?)
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

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

fn at_most_4_gib(path: &Path, len: u64) -> Result<u32, Failure> {
    u32::try_from(len).map_err(|_| {
        failed(format!(
            "{} is {len} bytes long: a .palm file has at most 4 GiB",
            path.display()
        ))
        .help("give a .palm file made by `palmtop convert`, or a checkpoint folder")
    })
}

/// The converter's messages name the file, the place and the remedy already.
pub fn not_converted(folder: &Path, error: &ConvertError) -> Failure {
    failed(format!("cannot convert {}: {error}", folder.display()))
}
