//! `cargo xtask test`: every check of the repository, in steps that name themselves.

use std::fs;
use std::io::{Write, stdout};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::boards::Board;
use crate::emulate::{self, grouped};
use crate::process::{self, Output};
use crate::toolchain::{self, TARGETS, Toolchain};
use crate::{
    arm64, board_tests, budget, c_example, defmt_log, experts, g2p_alone, golden, hardware,
    kernels, loads, new_tests, paged_tests, panic_free, setup, size, size_features, workspace,
    yields,
};

/// Longest that one step may take.
const LIMIT: Duration = Duration::from_secs(1500);

/// Words for which instructions between yields are counted; `cargo xtask yields` counts 100.
const YIELD_WORDS: usize = 3;

/// Options of `test`.
#[derive(clap::Args)]
pub struct Args {
    /// Leave out everything that needs a cross compiler or an emulator.
    #[arg(long)]
    skip_boards: bool,
    /// Leave out formatting, lints and documentation.
    #[arg(long)]
    skip_lints: bool,
    /// Leave out the host's tests.
    #[arg(long)]
    skip_tests: bool,
    /// Words for which the emulated M4F and M3 must give the host's bits.
    #[arg(long, default_value_t = 5)]
    words: usize,
    /// Build every board that one can buy, and not only the one whose turn it is.
    #[arg(long)]
    every_board: bool,
    /// Whose turn it is: a number, modulo the boards. As many as there are commits if absent.
    #[arg(long)]
    turn: Option<usize>,
    /// Write the golden outputs of the emulated boards anew, where the bits are the host's.
    #[arg(long)]
    overwrite: bool,
    /// Only the steps whose names contain this.
    #[arg(long)]
    only: Option<String>,
}

/// What a step has to say besides that it passed.
type Note = String;

/// Runs steps one after another and remembers which failed.
#[derive(Default)]
struct Steps {
    passed: usize,
    failed: Vec<String>,
    /// Part of the name of the steps to take.
    only: Option<String>,
}

impl Steps {
    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<Note>) {
        if self.only.as_ref().is_some_and(|part| !name.contains(part)) {
            return;
        }
        print!("{name:<44} ");
        let _ = stdout().flush();
        let start = Instant::now();
        let result = work();
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(note) => {
                println!("ok     {seconds:>6.1} s  {note}");
                self.passed += 1;
            }
            Err(error) => {
                println!("FAILED {seconds:>6.1} s\n{error:#}\n");
                self.failed.push(name.to_owned());
            }
        }
    }
}

/// Runs every check; an error that names the steps that failed.
pub fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let mut steps = Steps {
        only: args.only.clone(),
        ..Steps::default()
    };
    if !args.skip_boards {
        setup::run(&setup::Args::default())?;
    }
    if !args.skip_lints {
        lints(&mut steps);
    }
    if !args.skip_tests {
        steps.step("tests on the host", host_tests);
        steps.step("the core, overflow checked", checked_tests);
        steps.step("package of the library", package);
    }
    if !args.skip_boards {
        steps.step("kernels on 64-bit Arm", arm64::test);
        let toolchain = toolchain::find()?;
        boards(&mut steps, &toolchain, args);
        expert_steps(&mut steps, &toolchain);
        projects(&mut steps, &toolchain, args);
        products(&mut steps, &toolchain, args)?;
    }
    println!("{:.0} s in all", start.elapsed().as_secs_f64());
    for name in &steps.failed {
        println!("failed: {name}");
    }
    println!("{} passed, {} failed", steps.passed, steps.failed.len());
    if steps.failed.is_empty() {
        Ok(())
    } else {
        bail!("{} of the steps failed", steps.failed.len())
    }
}

fn lints(steps: &mut Steps) {
    steps.step("format", || cargo(&["fmt", "--all", "--check"]));
    steps.step("format of the boards", || {
        let mut command = process::host_cargo();
        command.args(["fmt", "--all", "--check"]);
        quiet(command.current_dir(workspace::root().join("boards")))?;
        for board in hardware::table()? {
            let mut command = process::host_cargo();
            command.args(["fmt", "--all", "--check"]);
            quiet(command.current_dir(board.folder()))?;
        }
        Ok(Note::new())
    });
    steps.step("lints", || {
        cargo(&[
            "clippy",
            "--release",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])
    });
    steps.step("lints of the core with defmt", || {
        cargo(&[
            "clippy",
            "--release",
            "-p",
            "palmtop",
            "--features",
            "defmt",
            "--",
            "-D",
            "warnings",
        ])
    });
    steps.step("documentation", || {
        let mut command = process::host_cargo();
        command.args(["doc", "--release", "--workspace", "--no-deps"]);
        quiet(command.env("RUSTDOCFLAGS", "-D warnings"))?;
        Ok(Note::new())
    });
}

/// What would go to crates.io: it builds by itself, and is far below the 10 MB that are allowed there.
fn package() -> Result<Note> {
    const MOST: u64 = 1 << 20;
    // What it depends on has been downloaded by the builds before.
    cargo(&["package", "-p", "palmtop", "--allow-dirty", "--offline"])?;
    let folder = workspace::target().join("package");
    let mut bytes = 0;
    for file in fs::read_dir(folder)? {
        let file = file?;
        if file.path().extension().is_some_and(|end| end == "crate") {
            bytes = bytes.max(file.metadata()?.len());
        }
    }
    match bytes {
        0 => bail!("there is no package"),
        bytes if bytes > MOST => bail!("{} bytes", grouped(bytes)),
        bytes => Ok(format!("{} bytes", grouped(bytes))),
    }
}

/// The core on damaged files and in every order of calls, with overflow checks and debug
/// assertions on.
fn checked_tests() -> Result<Note> {
    cargo(&[
        "test", "-p", "palmtop", "--test", "corrupt", "--test", "session",
    ])
}

/// The workspace's tests; the note sums what the test runners counted.
fn host_tests() -> Result<Note> {
    let mut command = process::host_cargo();
    command.args(["test", "--release", "--workspace"]);
    let output = quiet(&mut command)?;
    let count = |what: &str| -> usize {
        let results = output
            .stdout
            .lines()
            .filter(|line| line.starts_with("test result:"));
        results.filter_map(|line| number_before(line, what)).sum()
    };
    let passed = count(" passed");
    if passed == 0 {
        bail!("no test ran:\n{}", output.tail(20));
    }
    Ok(format!("{passed} tests, {} ignored", count(" ignored")))
}

fn number_before(line: &str, what: &str) -> Option<usize> {
    line[..line.find(what)?].rsplit(' ').next()?.parse().ok()
}

fn boards(steps: &mut Steps, toolchain: &Toolchain, args: &Args) {
    let words = args.words;
    for target in TARGETS {
        steps.step(&format!("core for {target}"), || {
            let folder = workspace::root().join("boards");
            let mut command = toolchain.cargo(target, &folder, "build");
            quiet(command.args(["--release", "-p", "palmtop"]))?;
            Ok(Note::new())
        });
    }
    for target in panic_free::TARGETS {
        steps.step(&format!("panic-free on {target}"), || {
            panic_free::check(toolchain, target)?;
            Ok(Note::new())
        });
    }
    for board in Board::ALL {
        steps.step(&format!("firmware for {}", board.name()), || {
            board.build(toolchain)?;
            Ok(Note::new())
        });
    }
    steps.step("library's flash on m4f", || {
        let bytes = size::library_bytes(Board::M4f)?;
        budget::hold(&budget::load()?.any_model, "m4f", bytes)?;
        Ok(format!("{} bytes", grouped(bytes)))
    });
    for target in size_features::TARGETS {
        steps.step(&format!("flash of g2p alone on {target}"), || {
            let bytes = size_features::bytes(toolchain, target, "", "s")?;
            budget::hold(&budget::load()?.g2p_alone, target, bytes)?;
            Ok(format!("{} bytes", grouped(bytes)))
        });
    }
    steps.step("the palmtop command", || {
        emulate::palmtop()?;
        Ok(Note::new())
    });
    for board in Board::ALL {
        steps.step(&format!("kernels on {}", board.name()), || {
            kernels::check(board, toolchain, 1)
        });
    }
    for board in Board::ALL {
        steps.step(&format!("tiny models on {}", board.name()), || {
            golden::check(board, toolchain, args.overwrite)
        });
    }
    for board in [Board::M0, Board::M3, Board::M4f, Board::M55] {
        steps.step(&format!("every layout on {}", board.name()), || {
            board_tests::layouts(board, toolchain)
        });
    }
    for board in [Board::M0, Board::M4f, Board::Rv32] {
        steps.step(&format!("bad input on {}", board.name()), || {
            board_tests::refusals(board, toolchain)
        });
    }
    for board in [Board::M4f, Board::M3] {
        steps.step(
            &format!("shipped model on {}: the host's bits", board.name()),
            || board_tests::same_bits(board, toolchain, words),
        );
    }
    for board in g2p_alone::BOARDS {
        steps.step(
            &format!("g2p alone on {}: the host's bits", board.name()),
            || g2p_alone::check(board, toolchain, 2),
        );
    }
    steps.step("defmt on m4f: the host's bits", || {
        defmt_log::check(toolchain, args.overwrite)
    });
    steps.step("bounded units on m4f: yields", || {
        yields::check(Board::M4f, toolchain, YIELD_WORDS)
    });
    steps.step("header for C and C++", c_example::header);
    steps.step("from C on m4f: the host's bits", || {
        c_example::same_bits(toolchain, words)
    });
    steps.step("six tasks on m4f: the host's bits", || {
        board_tests::tasks(Board::M4f, toolchain, 6)
    });
}

/// Projects of `palmtop new`: those for the emulator answer as the host does; those for real
/// boards build and link, in turns.
fn projects(steps: &mut Steps, toolchain: &Toolchain, args: &Args) {
    for board in new_tests::EMULATED {
        steps.step(&format!("project for {}", board.name()), || {
            new_tests::answers(board, toolchain)
        });
    }
    let turn = args.turn.unwrap_or_else(commits) % new_tests::REAL.len();
    for (number, board) in new_tests::REAL.iter().enumerate() {
        if !args.every_board && number != turn {
            continue;
        }
        steps.step(&format!("project for {}", board.name), || {
            new_tests::links(board, toolchain)
        });
    }
}

/// Boards that one can buy: a HAL takes minutes to build, so they take turns.
fn products(steps: &mut Steps, toolchain: &Toolchain, args: &Args) -> Result<()> {
    let products = hardware::table()?;
    let turn = args.turn.unwrap_or_else(commits) % products.len();
    for (number, product) in products.iter().enumerate() {
        if args.every_board || number == turn {
            steps.step(&format!("firmware for {}, linked", product.name), || {
                product.build(toolchain)?;
                Ok(Note::new())
            });
        }
    }
    steps.step("what the boards share", || {
        let mut command = process::host_cargo();
        command.args(["test", "--release"]);
        quiet(command.current_dir(workspace::root().join("boards/support")))?;
        Ok(Note::new())
    });
    Ok(())
}

/// How many commits there are; 0 where git cannot say.
fn commits() -> usize {
    let mut git = Command::new("git");
    git.args(["rev-list", "--count", "HEAD"])
        .current_dir(workspace::root());
    let output = process::capture(&mut git, Duration::from_secs(30));
    let count = output.map(|output| output.stdout.trim().parse());
    count.ok().and_then(Result::ok).unwrap_or(0)
}

/// Experts: read on demand, and read no more often than need be.
fn expert_steps(steps: &mut Steps, toolchain: &Toolchain) {
    for board in [Board::M0, Board::M4f, Board::Rv32] {
        steps.step(&format!("paged experts on {}", board.name()), || {
            paged_tests::tiny(board, toolchain)
        });
    }
    steps.step("damaged experts on m4f", || {
        paged_tests::damaged(Board::M4f, toolchain)
    });
    steps.step("model of four times the flash of m4f", || {
        paged_tests::large(Board::M4f, toolchain)
    });
    steps.step("loads of experts' bytes on m4f", || {
        loads::encoder(Board::M4f, toolchain, &loads::models()?)
    });
    steps.step("4 and 128 experts on m4f", || {
        experts::check(Board::M4f, toolchain)
    });
}

fn cargo(arguments: &[&str]) -> Result<Note> {
    let mut command = process::host_cargo();
    quiet(command.args(arguments))?;
    Ok(Note::new())
}

/// Runs a command and shows what it printed only if it failed.
fn quiet(command: &mut Command) -> Result<Output> {
    let output = process::capture(command, LIMIT)?;
    if !output.status.success() {
        bail!("`{}`:\n{}", process::shown(command), output.tail(80));
    }
    Ok(output)
}
