//! Runs the command as a user does, on the fixtures of the repository.

// Each test binary uses its own part of this.
#![allow(dead_code)]

pub mod tensors;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A finished run: exit code, stdout and stderr.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The run, if it went well; the test fails otherwise.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stderr: {}", self.stderr);
        self
    }

    /// The run, if it failed with this code, said something and did not panic.
    pub fn refused(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        assert!(self.stderr.contains("error:"), "stderr: {}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "stderr: {}", self.stderr);
        self
    }

    /// That stderr says all of these.
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(
                self.stderr.contains(word),
                "`{word}` is not in: {}",
                self.stderr
            );
        }
        self
    }

    /// Stdout as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).expect("stdout is JSON")
    }

    /// The lines of stdout, each as JSON.
    pub fn lines(&self) -> Vec<Value> {
        let json = |line| serde_json::from_str(line).expect("every line is JSON");
        self.stdout.lines().map(json).collect()
    }
}

/// Runs `palmtop` with these arguments.
pub fn palmtop(args: &[&str]) -> Ran {
    palmtop_on(args, b"")
}

/// Runs `palmtop` with these arguments and this stdin.
pub fn palmtop_on(args: &[&str], stdin: &[u8]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_palmtop"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    // A command that refuses its arguments does not read: a broken pipe is fine.
    let _ = child
        .stdin
        .take()
        .expect("stdin is a pipe")
        .write_all(stdin);
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().expect("the command ends");
    Ran {
        code: status.code().expect("the command is not killed"),
        stdout: String::from_utf8(stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(stderr).expect("stderr is UTF-8"),
    }
}

/// A checkpoint folder of the repository.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(name)
}

/// A path as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

/// A folder for a test's files; gone when dropped.
pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

/// A fixture, converted into `folder`.
pub fn converted(folder: &TempDir, name: &str, weights: &str) -> PathBuf {
    let file = folder.path().join(format!("{name}-{weights}.palm"));
    let checkpoint = fixture(name);
    palmtop(&[
        "convert",
        arg(&checkpoint),
        "-o",
        arg(&file),
        "--weights",
        weights,
    ])
    .ok();
    file
}

/// A copy of a fixture that takes the letters a to z and prints `outputs`, converted. The random
/// weights make no sense of words, but the way from text to text is the real one.
pub fn with_letters(folder: &TempDir, name: &str, outputs: &str) -> PathBuf {
    let checkpoint = folder.path().join(format!("{name}-letters"));
    fs::create_dir(&checkpoint).expect("a folder can be made");
    for file in ["config.json", "generation_config.json", "model.safetensors"] {
        let from = fixture(name).join(file);
        fs::write(
            checkpoint.join(file),
            fs::read(from).expect("fixtures can be read"),
        )
        .expect("files can be written");
    }
    let config = checkpoint.join("config.json");
    let text = fs::read_to_string(&config).expect("config.json can be read");
    let mut json: Value = serde_json::from_str(&text).expect("config.json is JSON");
    json["grapheme_chars"] = "____abcdefghijklmnopqrstuvwxyz".into();
    json["phoneme_chars"] = format!("____{outputs}").into();
    fs::write(&config, json.to_string()).expect("config.json can be written");
    let file = folder.path().join(format!("{name}-letters.palm"));
    palmtop(&["convert", arg(&checkpoint), "-o", arg(&file)]).ok();
    file
}

/// Printed by ids 4 to 70 of models made by [`with_letters`].
pub fn letters() -> String {
    ('A'..='Z').chain('a'..='z').chain('0'..='9').collect()
}
