//! An emulated device that holds a `.palm` file, whose reads can fail, and the mapped runs to which
//! paged ones are compared.
#![allow(dead_code)]

use super::{Aligned, Case, Reference, Run, run_session};
use embedded_storage::ReadStorage;
use palmtop::format::{ExpertRecord, Palm};
use palmtop::storage::{Mapped, StorageError, WeightSource};
use palmtop::{Limits, Model, NoTrace, Session};

/// Where the file begins in the emulated devices.
pub const BASE: usize = 0x3000;

/// What happens to a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is read; an error.
    Error,
    /// Half of the bytes, and an error.
    Short,
    /// Half of the bytes, and no error: the rest is what was there before.
    Silent,
    /// All bytes, one bit flipped.
    Flip,
}

pub const FAULTS: [Fault; 4] = [Fault::Error, Fault::Short, Fault::Silent, Fault::Flip];

/// A device that holds a file at [`BASE`] and nothing else, and counts what is read.
pub struct Device {
    pub bytes: Vec<u8>,
    pub reads: Vec<(u32, usize)>,
    /// Which read fails, once, and how.
    pub fault: Option<(usize, Fault)>,
}

/// What the device says when it fails.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure(pub usize);

impl Device {
    /// A device with the file, of which the resident part is destroyed: nothing may read it.
    pub fn new(image: &Aligned) -> Self {
        let mut bytes = vec![0xEE; BASE];
        bytes.extend_from_slice(image.as_ref());
        let resident = Palm::resident_len(image.as_ref()).unwrap() as usize;
        bytes[BASE..BASE + resident].fill(0xEE);
        Self {
            bytes,
            reads: Vec::new(),
            fault: None,
        }
    }

    pub fn with_fault(image: &Aligned, fault: Option<(usize, Fault)>) -> Self {
        let device = Self::new(image);
        Self { fault, ..device }
    }
}

impl ReadStorage for Device {
    type Error = Failure;

    fn read(&mut self, offset: u32, into: &mut [u8]) -> Result<(), Failure> {
        assert!(offset.is_multiple_of(16) && into.len().is_multiple_of(16));
        assert!(into.as_ptr().addr().is_multiple_of(16));
        let (start, read) = (offset as usize, self.reads.len());
        self.reads.push((offset, into.len()));
        let wanted = &self.bytes[start..start + into.len()];
        let fault = self.fault.filter(|(at, _)| *at == read).map(|(_, f)| f);
        let half = into.len() / 2;
        match fault {
            Some(Fault::Error) => return Err(Failure(read)),
            Some(Fault::Short | Fault::Silent) => {
                // What the slot held before must not be taken for what was read.
                if into[half..] == wanted[half..] {
                    into[half] ^= 1;
                }
                into[..half].copy_from_slice(&wanted[..half]);
                if fault == Some(Fault::Short) {
                    return Err(Failure(read));
                }
            }
            Some(Fault::Flip) => {
                into.copy_from_slice(wanted);
                // Another bit each time, the first and the last byte among them.
                let at = (read * 997) % (into.len() + 1);
                into[at.min(wanted.len() - 1)] ^= 1 << (read % 8);
            }
            None => into.copy_from_slice(wanted),
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

/// Mapped memory that notes which experts are asked for.
pub struct Noted<'m> {
    pub mapped: Mapped<'m>,
    pub asked: Vec<u32>,
}

impl WeightSource for &mut Noted<'_> {
    fn expert(&mut self, index: u32, expert: &ExpertRecord) -> Result<&[u8], StorageError> {
        self.asked.push(index);
        self.mapped.expert(index, expert)
    }
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

pub fn limits_of(case: &Case) -> Limits {
    Limits {
        source: case.source.len() as u32,
        target: case.target.len() as u32,
        beams: 1,
    }
}

/// Hidden states and logits of a case.
pub fn outputs<S: WeightSource>(session: &mut Session<'_, '_, S>, case: &Case) -> [Vec<u32>; 2] {
    let Run { hidden, logits } = run_session(session, case, &mut NoTrace);
    [bits(&hidden), bits(&logits)]
}

/// The outputs of a mapped run, and the experts that it asked for.
pub fn mapped(image: &Aligned, case: &Case) -> ([Vec<u32>; 2], Vec<u32>) {
    let model = Model::parse(image.as_ref()).unwrap();
    let limits = limits_of(case);
    let mut noted = Noted {
        mapped: Mapped::new(*model.palm()),
        asked: Vec::new(),
    };
    let mut arena = Aligned::filled(model.arena_bytes(limits), 0xA5);
    let mut session = Session::with_source(model, limits, arena.as_mut(), &mut noted).unwrap();
    let outputs = outputs(&mut session, case);
    (outputs, noted.asked)
}

/// The file's start, without a byte of its experts.
pub fn resident(image: &Aligned) -> Aligned {
    let length = Palm::resident_len(image.as_ref()).unwrap() as usize;
    Aligned::new(&image.as_ref()[..length])
}

/// A case with a few tokens.
pub fn short(name: &str) -> Case {
    Reference::of(name).cases().swap_remove(1)
}

/// Where an expert lies in the device.
pub fn place(model: &Model<'_>, index: u32) -> (u32, usize) {
    let expert = model.palm().expert(index);
    (BASE as u32 + expert.offset, expert.len as usize)
}

/// The loads of a cache of so many slots, written down in the simplest way.
pub fn least_recently_used(asked: &[u32], slots: usize) -> Vec<u32> {
    let (mut held, mut loads) = (Vec::new(), Vec::new());
    for index in asked {
        match held.iter().position(|other| other == index) {
            Some(at) => {
                held.remove(at);
            }
            None => {
                loads.push(*index);
                if held.len() == slots {
                    held.remove(0);
                }
            }
        }
        held.push(*index);
    }
    loads
}

/// Which error a fault gives.
pub fn reason(fault: Fault) -> StorageError {
    match fault {
        Fault::Error | Fault::Short => StorageError::Read,
        Fault::Silent | Fault::Flip => StorageError::Crc,
    }
}
