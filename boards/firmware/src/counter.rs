//! Counts executed instructions under QEMU's `-icount`, and checks itself with a loop of known
//! length.
//!
//! * Arm: with `-icount shift=6` every instruction takes 64 ns of virtual time, so SysTick, clocked
//!   at `mhz`, advances by `64 × mhz / 1000` ticks per instruction. SysTick has 24 bits; its
//!   exception extends it.
//! * RISC-V: with `-icount shift=0`, `minstret` is the number of instructions.
//!
//! These are instructions, never cycles: QEMU does not know how long an instruction takes.

/// A running count of instructions since [`Counter::start`].
pub struct Counter {
    /// Clock of SysTick in MHz (unused on RISC-V).
    mhz: u32,
}

/// Iterations of the loop that [`Counter::check`] times: long enough to wrap SysTick once.
const CHECK_ITERATIONS: u32 = 6_000_000;

impl Counter {
    /// Starts the counter of a board whose SysTick runs at `mhz` MHz.
    #[must_use]
    pub fn start(mhz: u32) -> Self {
        imp::start();
        Self { mhz }
    }

    /// The present moment, for [`Counter::since`].
    #[must_use]
    pub fn now(&self) -> u64 {
        imp::ticks()
    }

    /// The instructions executed since a moment that [`Counter::now`] returned.
    #[must_use]
    pub fn since(&self, then: u64) -> u64 {
        imp::instructions(self.now() - then, self.mhz)
    }

    /// Runs a loop of known length: the instructions it has, and those that were counted.
    #[must_use]
    pub fn check(&self) -> (u64, u64) {
        let start = self.now();
        imp::spin(CHECK_ITERATIONS);
        (2 * u64::from(CHECK_ITERATIONS), self.since(start))
    }
}

#[cfg(target_arch = "arm")]
mod imp {
    use core::arch::asm;
    use core::sync::atomic::{AtomicU32, Ordering};

    use cortex_m::Peripherals;
    use cortex_m::peripheral::syst::SystClkSource;
    use cortex_m::peripheral::{SCB, SYST};
    use cortex_m_rt::exception;

    /// SysTick counts down from here: 2²⁴ ticks a round.
    const TOP: u32 = 0x00FF_FFFF;

    /// Rounds that SysTick has finished.
    static ROUNDS: AtomicU32 = AtomicU32::new(0);

    #[exception]
    fn SysTick() {
        // No read-modify-write on ARMv6-M; nothing else writes it.
        ROUNDS.store(
            ROUNDS.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    pub fn start() {
        // SAFETY: the firmware has one thread, and only this module touches SysTick.
        let mut syst = unsafe { Peripherals::steal() }.SYST;
        ROUNDS.store(0, Ordering::Relaxed);
        syst.set_clock_source(SystClkSource::Core);
        syst.set_reload(TOP);
        syst.clear_current();
        syst.enable_interrupt();
        syst.enable_counter();
    }

    pub fn ticks() -> u64 {
        loop {
            let before = ROUNDS.load(Ordering::Relaxed);
            let left = SYST::get_current();
            let after = ROUNDS.load(Ordering::Relaxed);
            if before == after && !SCB::is_pendst_pending() {
                return (u64::from(before) << 24) + u64::from(TOP - left);
            }
        }
    }

    /// One instruction is 64 ns of virtual time.
    pub fn instructions(ticks: u64, mhz: u32) -> u64 {
        ticks * 1000 / (64 * u64::from(mhz))
    }

    /// Two instructions an iteration.
    pub fn spin(iterations: u32) {
        // SAFETY: touches one register and the flags.
        unsafe {
            asm!("2: subs {n}, {n}, #1", "bne 2b", n = inout(reg) iterations => _, options(nomem, nostack));
        }
    }
}

#[cfg(target_arch = "riscv32")]
mod imp {
    use core::arch::asm;

    /// `minstret` runs from reset; nothing is to be started.
    pub fn start() {}

    pub fn ticks() -> u64 {
        riscv::register::minstret::read64()
    }

    /// A tick is an instruction.
    pub fn instructions(ticks: u64, _mhz: u32) -> u64 {
        ticks
    }

    /// Two instructions an iteration.
    pub fn spin(iterations: u32) {
        // SAFETY: touches one register.
        unsafe {
            asm!("2: addi {n}, {n}, -1", "bnez {n}, 2b", n = inout(reg) iterations => _, options(nomem, nostack));
        }
    }
}
