//! `palmtop report`: a page that stands alone, and what a browser makes of it.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use common::{arg, folder, letters, palmtop, with_letters};

/// Writes a page about a small model on three tasks, with everything that a page can have.
fn page(folder: &TempDir) -> PathBuf {
    let model = with_letters(folder, "switch", &letters());
    let checkpoint = folder.path().join("switch-letters");
    let one = folder.path().join("one.tsv");
    let more = folder.path().join("more.tsv");
    fs::write(&one, "abc\tX\nhello\tY\n").expect("files can be written");
    let tasks =
        "#task a task with quite a long name & <marks>\nabcd\tX\nabe\tY\n#task third\nzzz\tZ\n";
    fs::write(&more, tasks).expect("files can be written");
    let out = folder.path().join("report.html");
    palmtop(&[
        "report",
        arg(&model),
        "--data",
        arg(&one),
        "--data",
        arg(&more),
        "--max-tokens",
        "6",
        "--reference",
        arg(&checkpoint),
        "-o",
        arg(&out),
    ])
    .ok()
    .says(&["report.html"]);
    out
}

#[test]
fn the_page_stands_alone() {
    let folder = folder();
    let out = page(&folder);
    let html = fs::read_to_string(&out).expect("the page is there");
    for word in [
        "Accuracy",
        "Load of the experts",
        "Experts by task",
        "Experts by class of letter",
        "Dropped tokens",
        "Flash",
        "RAM",
        "Error by layer",
        "all lines",
        "third",
        "n = 5",
        "a task with quite a long name &amp; &lt;marks&gt;",
        "encoder layer 1",
        "decoder layer 1",
        "prefers-color-scheme: dark",
    ] {
        assert!(html.contains(word), "`{word}` is not in the page");
    }
    for foreign in ["<script", "<link", "<img", "src=", "@import", "url("] {
        assert!(!html.contains(foreign), "`{foreign}` is in the page");
    }
    // The namespace of SVG is a name, not an address.
    let addresses = html.replace("http://www.w3.org/2000/svg", "");
    assert!(!addresses.contains("http"), "the page asks for something");
    let others = fs::read_dir(folder.path()).expect("the folder is there");
    let left = others
        .filter_map(Result::ok)
        .filter(|file| file.file_name().to_string_lossy().contains("report"))
        .count();
    assert_eq!(left, 1, "a temporary file was left");
}

#[test]
fn a_page_that_cannot_be_written_is_refused_before_the_work() {
    let folder = folder();
    let nowhere = folder.path().join("nowhere/report.html");
    let none = folder.path().join("none.palm");
    palmtop(&[
        "report",
        arg(&none),
        "--data",
        arg(&none),
        "-o",
        arg(&nowhere),
    ])
    .refused(1)
    .says(&["nowhere"]);
}

/// Looks at every picture, and writes what it sees into the page.
const LOOK: &str = r#"<script>
const problems = [];
addEventListener('error', e => problems.push('script: ' + e.message));
let pictures = 0, shapes = 0;
const inside = (a, b) => a.left >= b.left - 1 && a.right <= b.right + 1 && a.top >= b.top - 1 && a.bottom <= b.bottom + 1;
for (const svg of document.querySelectorAll('svg')) {
  const box = svg.getBoundingClientRect();
  if (box.width > 0 && box.height > 0) pictures++;
  for (const shape of svg.querySelectorAll('rect, text, circle')) {
    const b = shape.getBoundingClientRect();
    if (b.width > 0) shapes++;
    if (!inside(b, box)) problems.push('outside: ' + shape.outerHTML.slice(0, 200));
  }
  const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent);
  texts.forEach((t, i) => texts.slice(i + 1).forEach(u => {
    const a = t.getBoundingClientRect(), b = u.getBoundingClientRect();
    const w = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (w > 1 && h > 3) problems.push('over each other: ' + t.textContent + ' / ' + u.textContent);
  }));
}
if (document.documentElement.scrollWidth > innerWidth) problems.push('wider than the window');
document.body.setAttribute('data-seen', 'pictures=' + pictures + ' shapes=' + shapes);
document.body.setAttribute('data-problems', problems.slice(0, 8).join(' || '));
</script>"#;

/// A browser of this machine, if there is one.
fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    ["chromium", "chromium-browser", "google-chrome"]
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|file| file.is_file())
}

/// Opens a page in a window of this width and gives what the browser prints.
fn open(browser: &Path, page: &Path, width: u32, what: &str) -> String {
    let data = folder();
    let user = format!("--user-data-dir={}", data.path().display());
    let window = format!("--window-size={width},2400");
    let address = format!("file://{}", page.display());
    let ran = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            &user,
            &window,
            what,
            &address,
        ])
        .output()
        .expect("the browser starts");
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn a_browser_shows_every_picture() {
    let Some(browser) = browser() else {
        println!("skipped: there is no chromium here (Debian's package is chromium)");
        return;
    };
    let folder = folder();
    let page = page(&folder);
    let html = fs::read_to_string(&page).expect("the page is there");
    let watched = folder.path().join("watched.html");
    fs::write(&watched, html.replace("</body>", &format!("{LOOK}</body>")))
        .expect("files can be written");
    let drawn = html.matches("<svg ").count();
    for width in [1100, 520] {
        let dom = open(&browser, &watched, width, "--dump-dom");
        let seen = |name: &str| {
            let (_, rest) = dom.split_once(&format!("{name}=\"")).unwrap_or_default();
            rest.split('"').next().unwrap_or_default().to_owned()
        };
        assert_eq!(seen("data-problems"), "", "at a width of {width}");
        let pictures = format!("pictures={drawn} ");
        let found = seen("data-seen");
        assert!(found.starts_with(&pictures), "{found}, {drawn} are drawn");
        let shapes = found.split("shapes=").nth(1).and_then(|n| n.parse().ok());
        assert!(shapes > Some(100), "{found}");
    }

    let picture = folder.path().join("page.png");
    let shot = format!("--screenshot={}", picture.display());
    open(&browser, &page, 1100, &shot);
    let png = fs::read(&picture).expect("the browser has taken a picture");
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.len() > 20_000);
}
