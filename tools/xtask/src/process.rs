//! Runs other programs: without the environment that an outer cargo leaves behind, with a time
//! limit, and with their output kept for the error message.

use std::env;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a finished program left.
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, with bytes that are not UTF-8 replaced.
    pub stdout: String,
    /// Its standard error, likewise.
    pub stderr: String,
}

impl Output {
    /// The end of both streams, for an error message.
    pub fn tail(&self, lines: usize) -> String {
        let all: Vec<&str> = self.stdout.lines().chain(self.stderr.lines()).collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// Runs a program to its end with its output captured; an error if it cannot start or takes longer
/// than `limit`, in which case it is killed.
pub fn capture(command: &mut Command, limit: Duration) -> Result<Output> {
    let name = shown(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{name}`"))?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            let output = String::from_utf8_lossy(&stdout.join().unwrap_or_default()).into_owned();
            bail!(
                "`{name}` did not end within {} s and was killed; it had printed:\n{}",
                limit.as_secs(),
                last_lines(&output, 10)
            );
        }
        thread::sleep(Duration::from_millis(5));
    };
    let text = |reader: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
    };
    Ok(Output {
        status,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

/// The program and its arguments as one would type them.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut text = program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// Whether a program is there to be run: it starts and ends well when asked for its version.
pub fn runs(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether a program lies in a folder of the path: for one that cannot be asked for its version.
pub fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let name = format!("{program}{}", env::consts::EXE_SUFFIX);
    env::split_paths(&path).any(|folder| folder.join(&name).is_file())
}

/// The host's cargo: the one that runs this program, or the one on the path.
pub fn host_cargo() -> Command {
    let mut command = Command::new(host_cargo_path());
    clean(&mut command);
    command.current_dir(crate::workspace::root());
    command.env("CARGO_TARGET_DIR", crate::workspace::target());
    command
}

/// The compiler that belongs to [`host_cargo`].
pub fn host_rustc() -> Command {
    let beside = host_cargo_path().with_file_name("rustc");
    let mut command = Command::new(match beside.is_file() {
        true => beside,
        false => PathBuf::from("rustc"),
    });
    clean(&mut command);
    command.current_dir(crate::workspace::root());
    command
}

/// Path of the host's cargo.
pub fn host_cargo_path() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Removes what an outer `cargo run` put into the environment: it would choose the wrong toolchain,
/// flags or folders for an inner cargo. The user's registry, network and colour settings stay.
pub fn clean(command: &mut Command) {
    const KEPT: [&str; 8] = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "CARGO_BUILD_JOBS",
        "CARGO_INCREMENTAL",
    ];
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO") && !KEPT.iter().any(|kept| name.starts_with(kept)) {
            command.env_remove(&*name);
        }
    }
}

/// As [`clean`], and besides removes what chooses the host's toolchain and its flags.
pub fn clean_for_boards(command: &mut Command) {
    clean(command);
    for name in [
        "RUSTC",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTUP_TOOLCHAIN",
    ] {
        command.env_remove(name);
    }
}

/// The library path without the folders that rustup's cargo puts there for its own toolchain.
pub fn library_path_without_rustup() -> Option<OsString> {
    let path = env::var_os("LD_LIBRARY_PATH")?;
    let own = host_cargo_path()
        .ancestors()
        .nth(2)
        .map(|root| root.join("lib"));
    let kept = env::split_paths(&path).filter(|dir| Some(dir) != own.as_ref());
    env::join_paths(kept).ok()
}

fn drain(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
