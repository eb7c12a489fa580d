//! Where a model's bytes come from: a `.palm` file, or a checkpoint folder converted on the fly.
//!
//! A file is mapped, and every CRC is checked before anything is computed. With `--slots` only what
//! stands before the experts is mapped and checked; they stay in the file. While the command runs,
//! a file may be replaced by another under its name, but not be written to: see
//! [`map_file`](palmtop_convert::map_file).

use std::cmp::Ordering;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use memmap2::Mmap;
use palmtop::Model;
use palmtop::format::{ALIGN, FormatError, HEADER_LEN, Palm};
use palmtop_convert::{ConvertError, Options, Target, Weights, convert, map_file};

use crate::args::ModelArgs;
use crate::experts::Experts;
use crate::failure::{Failure, failed, misused};
use crate::progress::ConversionBar;

/// A flash image in memory, at an address that is a multiple of 16.
#[derive(Debug)]
pub struct Image {
    bytes: Bytes,
    path: PathBuf,
    converted: bool,
    experts: Place,
}

/// What holds an image.
#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Made(Vec<u128>, usize),
}

/// Where an image's experts are.
#[derive(Debug)]
enum Place {
    /// In the image.
    Image,
    /// In the image, but nobody will look at them.
    Unread,
    /// In the file, to be read through so many slots.
    File(File, usize),
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
        let file = open(path)?;
        match args.slots {
            Some(slots) => Self::map_resident(path, file, slots as usize),
            None => Self::map(path, &file),
        }
    }

    /// The whole image, even if its experts are to be read from the file in a run: for a look at
    /// its tables. If they are, nothing of them is read.
    pub fn load_to_inspect(args: &ModelArgs) -> Result<Self> {
        let mut image = Self::load(&ModelArgs {
            slots: None,
            ..args.clone()
        })?;
        if args.slots.is_some() && !image.converted {
            image.experts = Place::Unread;
        }
        Ok(image)
    }

    fn convert(folder: &Path, weights: Weights) -> Result<Self> {
        let options = Options {
            weights,
            layout: Target::host().layout(),
            ..Options::default()
        };
        Self::convert_with(folder, &options)
    }

    /// A checkpoint folder converted with these options.
    pub fn convert_with(folder: &Path, options: &Options) -> Result<Self> {
        let mut bar = ConversionBar::new();
        let converted = convert(folder, options, &mut bar);
        bar.finish();
        let converted = converted.map_err(|error| not_converted(folder, &error))?;
        let mut image = Self::from_bytes(&converted.bytes, folder);
        image.converted = true;
        Ok(image)
    }

    /// An image of these bytes, that `path` stands for.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Self {
        let mut blocks = vec![0u128; bytes.len().div_ceil(ALIGN)];
        bytemuck::cast_slice_mut(&mut blocks)[..bytes.len()].copy_from_slice(bytes);
        Self {
            bytes: Bytes::Made(blocks, bytes.len()),
            path: path.to_owned(),
            converted: false,
            experts: Place::Image,
        }
    }

    /// Maps the whole file.
    fn map(path: &Path, file: &File) -> Result<Self> {
        let mut image = Self::from_bytes(&[], path);
        // An empty file cannot be mapped; the parser says what is missing.
        if len_of(path, file)? > 0 {
            image.bytes = mapped(path, file, None)?;
        }
        Ok(image)
    }

    /// Maps the file up to its experts; they are read when they are needed.
    fn map_resident(path: &Path, mut file: File, slots: usize) -> Result<Self> {
        let len = len_of(path, &file)?;
        let mut head = vec![0; HEADER_LEN.min(len as usize)];
        let read = file.read_exact(&mut head);
        read.with_context(|| format!("cannot read {}", path.display()))?;
        let mut image = Self::from_bytes(&[], path);
        let parsed =
            Palm::total_len(&head).and_then(|total| Ok((total, Palm::resident_len(&head)?)));
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
        // A header that is damaged may state anything.
        let resident = resident.clamp(1, len) as usize;
        image.bytes = mapped(path, &file, Some(resident))?;
        image.experts = Place::File(file, slots);
        Ok(image)
    }

    /// The image.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Made(blocks, len) => &bytemuck::cast_slice(blocks)[..*len],
        }
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
        let parsed = match self.experts {
            Place::File(..) => Model::parse_resident(self.bytes()),
            Place::Image | Place::Unread => Model::parse(self.bytes()),
        };
        let model = parsed.map_err(|error| self.refused(error))?;
        let verified = match self.experts {
            Place::Unread => {
                let end = model.palm().header().experts_section.offset as usize;
                let before = self.bytes().get(..end).unwrap_or_default();
                Palm::parse_resident(before).and_then(|palm| palm.verify_with(crc32fast::hash))
            }
            Place::Image | Place::File(..) => {
                self.read_ahead();
                model.palm().verify_with(crc32fast::hash)
            }
        };
        verified.map_err(|error| self.refused(error))?;
        Ok(model)
    }

    /// Asks for all pages of a map at once: one by one they cost more than their check.
    fn read_ahead(&self) {
        #[cfg(target_os = "linux")]
        if let Bytes::Mapped(map) = &self.bytes {
            // Systems that cannot will fetch them one by one.
            let _ = map.advise(memmap2::Advice::PopulateRead);
        }
    }

    /// The experts of that model.
    pub fn experts<'m>(&'m self, model: &Model<'m>) -> Result<Experts<'m>> {
        let (file, slots) = match &self.experts {
            Place::File(file, slots) if model.palm().header().experts.count > 0 => (file, *slots),
            place => {
                if let Place::File(..) = place {
                    eprintln!("note: --slots: the model has no experts, all of it is in memory");
                }
                return Ok(Experts::mapped(model.palm()));
            }
        };
        let name = self.path.display();
        let file = file
            .try_clone()
            .with_context(|| format!("cannot open {name} twice"))?;
        let experts = Experts::paged(model, file, slots);
        Ok(experts.map_err(|_| failed(format!("this machine has no memory for {slots} slots")))?)
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

fn mapped(path: &Path, file: &File, len: Option<usize>) -> Result<Bytes> {
    let map = map_file(file, len);
    Ok(Bytes::Mapped(map.with_context(|| {
        format!("cannot read {}", path.display())
    })?))
}

/// Bytes of a file, which has at most 4 GiB.
fn len_of(path: &Path, file: &File) -> Result<u32> {
    let name = path.display();
    let metadata = file.metadata();
    let len = metadata
        .with_context(|| format!("cannot read {name}"))?
        .len();
    let len = u32::try_from(len).map_err(|_| {
        failed(format!(
            "{name} is {len} bytes long: a .palm file has at most 4 GiB"
        ))
        .help("give a .palm file made by `palmtop convert`, or a checkpoint folder")
    })?;
    Ok(len)
}

/// The converter's messages name the file, the place and the remedy already.
pub fn not_converted(folder: &Path, error: &ConvertError) -> Failure {
    failed(format!("cannot convert {}: {error}", folder.display()))
}
