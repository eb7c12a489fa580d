//! The board: QEMU's riscv32 virt, whose UART is the console.

pub use riscv_rt::entry;

/// Registers of the UART: data, and its state.
const DATA: *mut u8 = 0x1000_0000 as *mut u8;
const STATE: *mut u8 = 0x1000_0005 as *mut u8;
/// Ends the machine.
const FINISH: *mut u32 = 0x0010_0000 as *mut u32;

/// A console.
pub struct Console(());

impl Console {
    /// The UART is on from the start.
    pub fn new() -> Self {
        Self(())
    }

    /// Waits for a byte. Ctrl-D ends the emulator.
    pub fn read(&mut self) -> u8 {
        // SAFETY: registers of this machine.
        let byte = unsafe {
            while STATE.read_volatile() & 1 == 0 {}
            DATA.read_volatile()
        };
        if byte == 0x04 {
            // SAFETY: as above.
            unsafe { FINISH.write_volatile(0x5555) };
        }
        byte
    }

    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            // SAFETY: registers of this machine.
            unsafe {
                while STATE.read_volatile() & 0x20 == 0 {}
                DATA.write_volatile(byte);
            }
        }
    }
}
