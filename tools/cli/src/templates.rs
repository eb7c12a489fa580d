//! What differs from board to board in a project of `palmtop new`.

use crate::boards::{self, Board};
use crate::failure::{Failure, misused};

/// A board for which there is a project.
#[derive(Debug)]
pub struct Template {
    /// What `--board` takes.
    pub name: &'static str,
    /// Files of their own: `src/board.rs`, and `memory.x` unless the chip's crate has the memory.
    pub board_rs: &'static str,
    pub memory_x: Option<&'static str>,
    /// Dependencies beside palmtop.
    pub dependencies: &'static str,
    /// Arguments for the linker, as Rust strings.
    pub link_args: &'static str,
    /// What `cargo run` starts the program with.
    pub runner: &'static str,
    /// What that needs.
    pub run: &'static str,
    /// Where the console is.
    pub console: &'static str,
    /// What it is.
    pub machine: Machine,
}

/// A board of the table, or an emulated machine.
#[derive(Debug)]
pub enum Machine {
    /// A name in `boards.toml`.
    Board,
    /// QEMU's.
    Emulated {
        title: &'static str,
        core: &'static str,
        class: &'static str,
        target: &'static str,
        layout: &'static str,
        flash: u64,
        ram: u64,
    },
}

/// What there is to know of the board of a template.
#[derive(Debug)]
pub struct Facts<'a> {
    pub title: &'a str,
    pub mcu: &'a str,
    pub core: &'a str,
    pub class: &'a str,
    pub target: &'a str,
    pub layout: &'a str,
    pub flash: u64,
    pub ram: u64,
}

const CORTEX_M: &str = "\"--nmagic\", \"-Tlink.x\"";
const QEMU: &str = "the emulator, qemu-system-arm, with its UART on this terminal";
const PROBE: &str = "flashes and runs it: cargo install probe-rs-tools --locked";

/// All templates.
pub const ALL: [Template; 10] = [
    Template {
        name: "m3",
        board_rs: include_str!("../templates/uart_cmsdk.rs"),
        memory_x: Some(include_str!("../templates/mps2.x")),
        dependencies: "cortex-m-rt = \"0.7\"\n",
        link_args: CORTEX_M,
        runner: "qemu-system-arm -M mps2-an385 -display none -serial stdio -semihosting-config enable=on,target=native -kernel",
        run: QEMU,
        console: "the terminal; ctrl-D ends the emulator",
        machine: Machine::Emulated {
            title: "QEMU's mps2-an385",
            core: "Cortex-M3",
            class: "m3",
            target: "thumbv7m-none-eabi",
            layout: "thumbv7m",
            flash: 4 << 20,
            ram: 4 << 20,
        },
    },
    Template {
        name: "m4f",
        board_rs: include_str!("../templates/uart_cmsdk.rs"),
        memory_x: Some(include_str!("../templates/mps2.x")),
        dependencies: "cortex-m-rt = \"0.7\"\n",
        link_args: CORTEX_M,
        runner: "qemu-system-arm -M mps2-an386 -display none -serial stdio -semihosting-config enable=on,target=native -kernel",
        run: QEMU,
        console: "the terminal; ctrl-D ends the emulator",
        machine: Machine::Emulated {
            title: "QEMU's mps2-an386",
            core: "Cortex-M4F",
            class: "m4f",
            target: "thumbv7em-none-eabihf",
            layout: "thumbv7em",
            flash: 4 << 20,
            ram: 4 << 20,
        },
    },
    Template {
        name: "rv32",
        board_rs: include_str!("../templates/rv32.rs"),
        memory_x: Some(include_str!("../templates/rv32.x")),
        dependencies: "riscv-rt = { version = \"0.18\", features = [\"memory\", \"single-hart\"] }\n",
        link_args: "\"-Tlink.x\"",
        runner: "qemu-system-riscv32 -M virt -bios none -display none -serial stdio -kernel",
        run: "the emulator, qemu-system-riscv32, with its UART on this terminal",
        console: "the terminal; ctrl-D ends the emulator",
        machine: Machine::Emulated {
            title: "QEMU's riscv32 virt",
            core: "RV32IMAC",
            class: "rv32",
            target: "riscv32imac-unknown-none-elf",
            layout: "riscv32",
            flash: 64 << 20,
            ram: 16 << 20,
        },
    },
    Template {
        name: "pico",
        board_rs: concat!(
            include_str!("../templates/pico.rs"),
            include_str!("../templates/uart_rp.rs")
        ),
        memory_x: Some(include_str!("../templates/pico.x")),
        dependencies: "cortex-m = \"0.7\"\ncortex-m-rt = \"0.7\"\nrp2040-boot2 = \"0.3\"\n\
            rp2040-hal = { version = \"0.12\", features = [\"rt\", \"critical-section-impl\"] }\n",
        link_args: CORTEX_M,
        runner: "probe-rs run --chip RP2040",
        run: PROBE,
        console: "UART0 on pins 1 (TX) and 2 (RX), 115,200 baud",
        machine: Machine::Board,
    },
    Template {
        name: "pico2",
        board_rs: include_str!("../templates/pico2.rs"),
        memory_x: Some(include_str!("../templates/pico2.x")),
        dependencies: "cortex-m = \"0.7\"\ncortex-m-rt = \"0.7\"\n\
            embassy-rp = { version = \"0.10\", features = [\"rp235xa\", \"critical-section-impl\", \"time-driver\"] }\n",
        link_args: CORTEX_M,
        runner: "probe-rs run --chip RP235x",
        run: PROBE,
        console: "UART0 on pins 1 (TX) and 2 (RX), 115,200 baud",
        machine: Machine::Board,
    },
    Template {
        name: "pico2-riscv",
        board_rs: concat!(
            include_str!("../templates/pico2-riscv.rs"),
            include_str!("../templates/uart_rp.rs")
        ),
        memory_x: Some(include_str!("../templates/pico2-riscv.x")),
        dependencies: "rp235x-hal = { version = \"0.4\", features = [\"rt\", \"critical-section-impl\"] }\n",
        link_args: "\"--nmagic\", \"-Tmemory.x\", \"-Tdevice.x\", \"-Tlink.x\"",
        runner: "picotool load --update --verify --execute -t elf",
        run: "flashes and starts it, by picotool: hold BOOTSEL while plugging the board in",
        console: "UART0 on pins 1 (TX) and 2 (RX), 115,200 baud",
        machine: Machine::Board,
    },
    Template {
        name: "nrf52840-dk",
        board_rs: include_str!("../templates/nrf52840-dk.rs"),
        memory_x: Some(include_str!("../templates/nrf52840-dk.x")),
        dependencies: "cortex-m = { version = \"0.7\", features = [\"critical-section-single-core\"] }\n\
            cortex-m-rt = \"0.7\"\n\
            embassy-nrf = { version = \"0.11\", features = [\"nrf52840\"] }\n",
        link_args: CORTEX_M,
        runner: "probe-rs run --chip nRF52840_xxAA",
        run: PROBE,
        console: "the serial port of the kit's debugger, 115,200 baud",
        machine: Machine::Board,
    },
    Template {
        name: "stm32f4-discovery",
        board_rs: include_str!("../templates/stm32f4-discovery.rs"),
        memory_x: Some(include_str!("../templates/stm32f4-discovery.x")),
        dependencies: "cortex-m = { version = \"0.7\", features = [\"critical-section-single-core\"] }\n\
            cortex-m-rt = \"0.7\"\nnb = \"1\"\n\
            stm32f4xx-hal = { version = \"0.23\", features = [\"stm32f407\"] }\n",
        link_args: CORTEX_M,
        runner: "probe-rs run --chip STM32F407VG",
        run: PROBE,
        console: "USART2 on PA2 (TX) and PA3 (RX), 115,200 baud",
        machine: Machine::Board,
    },
    Template {
        name: "stm32h743-nucleo",
        board_rs: include_str!("../templates/stm32h743-nucleo.rs"),
        memory_x: Some(include_str!("../templates/stm32h743-nucleo.x")),
        dependencies: "cortex-m = { version = \"0.7\", features = [\"critical-section-single-core\"] }\n\
            cortex-m-rt = \"0.7\"\nnb = \"1\"\n\
            stm32h7xx-hal = { version = \"0.16\", features = [\"stm32h743v\", \"rt\"] }\n",
        link_args: CORTEX_M,
        runner: "probe-rs run --chip STM32H743ZITx",
        run: PROBE,
        console: "the serial port of the board's debugger, 115,200 baud",
        machine: Machine::Board,
    },
    Template {
        name: "esp32c3",
        board_rs: include_str!("../templates/esp32c3.rs"),
        memory_x: None,
        dependencies: "esp-bootloader-esp-idf = { version = \"0.6\", features = [\"esp32c3\"] }\n\
            esp-hal = { version = \"1.2\", features = [\"esp32c3\"] }\n",
        link_args: "\"-Tlinkall.x\"",
        runner: "espflash flash --monitor --chip esp32c3",
        run: "flashes and runs it, and is its console: cargo install espflash --locked",
        console: "the kit's USB port, 115,200 baud",
        machine: Machine::Board,
    },
];

impl Template {
    /// The template for a board: by its name, that of an emulated machine, or the microcontroller.
    pub fn find(name: &str) -> Result<&'static Self, Failure> {
        let named = |name: &str| ALL.iter().find(|template| template.name == name);
        let known = || {
            let names: Vec<&str> = ALL.iter().map(|template| template.name).collect();
            names.join(", ")
        };
        if let Some(template) = named(name) {
            return Ok(template);
        }
        boards::find(name)
            .ok()
            .and_then(|board| named(&board.name))
            .ok_or_else(|| {
                misused(format!("`{name}` is no board that is known here"))
                    .help(format!("boards: {}", known()))
            })
    }

    /// What there is to know of the board.
    pub fn facts(&self) -> Facts<'_> {
        match &self.machine {
            Machine::Emulated {
                title,
                core,
                class,
                target,
                layout,
                flash,
                ram,
            } => Facts {
                title,
                mcu: "emulated",
                core,
                class,
                target,
                layout,
                flash: *flash,
                ram: *ram,
            },
            Machine::Board => {
                let named = |board: &&Board| board.name == self.name;
                let board = boards::all().iter().find(named);
                let board = board.expect("templates name boards of the table");
                Facts {
                    title: &board.title,
                    mcu: &board.mcu,
                    core: &board.core,
                    class: &board.class,
                    target: &board.target,
                    layout: &board.layout,
                    flash: board.flash,
                    ram: board.arena_region().bytes,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_has_its_board() {
        for template in &ALL {
            let facts = template.facts();
            assert!(facts.flash > 0 && facts.ram > 0, "{}", template.name);
            assert!(Template::find(template.name).is_ok());
        }
        for board in boards::all() {
            assert!(Template::find(&board.name).is_ok(), "{}", board.name);
        }
        assert_eq!(Template::find("RP2350").unwrap().name, "pico2");
        assert!(Template::find("abacus").is_err());
    }
}
