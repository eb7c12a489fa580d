//! Reports hardware faults, such as an unaligned load on a core that has none, instead of hanging.

use crate::host::Console;

/// Reports the instruction's address and ends.
fn report(address: usize) -> ! {
    let mut out = Console::open();
    out.text("fault at address").number(address as u64).end();
    semihosting::process::exit(102)
}

#[cfg(target_arch = "arm")]
#[cortex_m_rt::exception]
unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
    report(frame.pc() as usize)
}

#[cfg(target_arch = "riscv32")]
#[unsafe(no_mangle)]
extern "C" fn ExceptionHandler() -> ! {
    report(riscv::register::mepc::read())
}
