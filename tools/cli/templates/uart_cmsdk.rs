//! The board: QEMU's {{board_folder}}, whose UART is the console.

pub use cortex_m_rt::entry;

/// Registers of UART0.
const DATA: *mut u32 = 0x4000_4000 as *mut u32;
const STATE: *mut u32 = 0x4000_4004 as *mut u32;
const CONTROL: *mut u32 = 0x4000_4008 as *mut u32;
const DIVIDER: *mut u32 = 0x4000_4010 as *mut u32;

/// A console.
pub struct Console(());

impl Console {
    /// Switches the UART on.
    pub fn new() -> Self {
        // SAFETY: registers of this machine, which nothing else writes.
        unsafe {
            DIVIDER.write_volatile(217); // 115,200 baud at 25 MHz
            CONTROL.write_volatile(3);
        }
        Self(())
    }

    /// Waits for a byte. Ctrl-D ends the emulator.
    pub fn read(&mut self) -> u8 {
        // SAFETY: registers of this machine.
        let byte = unsafe {
            while STATE.read_volatile() & 2 == 0 {}
            DATA.read_volatile() as u8
        };
        if byte == 0x04 {
            leave();
        }
        byte
    }

    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            // SAFETY: registers of this machine.
            unsafe {
                while STATE.read_volatile() & 1 != 0 {}
                DATA.write_volatile(byte.into());
            }
        }
    }
}

/// Ends the emulator by semihosting.
fn leave() -> ! {
    // SAFETY: SYS_EXIT, "application exit", does not return.
    unsafe {
        core::arch::asm!("bkpt 0xAB", in("r0") 0x18, in("r1") 0x20026, options(noreturn));
    }
}
