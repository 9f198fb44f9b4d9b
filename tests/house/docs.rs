//! Goal: whoever reads the documents is not sent anywhere that does not exist, nor shown a frame that is none.
//! Method: every relative link of the READMEs, the changelog and `proto-docs` is followed, headings included; the
//! frames of the README, which leave things out, are held against the schemas as far as they go.

use crate::schema;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_relative_link_leads_somewhere() {
    let mut faults = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let dead = links_of(&text).into_iter().filter(|link| !leads_somewhere(&page, link));
        faults.extend(dead.map(|link| format!("{}: {link}", page.display())));
    }
    assert!(faults.is_empty(), "dead links:\n  {}", faults.join("\n  "));
}

#[test]
fn every_frame_of_the_readme_is_one_of_the_protocol() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let mut seen = 0;
    for line in readme.lines() {
        let said = [("→ ", "client"), ("← ", "server")];
        let said = said.iter().find_map(|(arrow, side)| Some((*side, line.strip_prefix(arrow)?)));
        let Some((side, shown)) = said else { continue };
        // What is left out at the end, and in the middle of an id.
        let text = shown.replace(", …}", "}").replace('…', ".");
        let frame = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
        let whole = !shown.contains(", …}");
        match (side, whole) {
            ("client", true) => schema::validate_client(&frame).unwrap(),
            ("server", true) => schema::validate_server(&frame).unwrap(),
            _ => {}
        }
        schema::validate_part(side, &frame).unwrap();
        seen += 1;
    }
    assert!(seen > 5, "the README shows {seen} frames");
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("proto-docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let others = ["README.md", "CHANGELOG.md", "clients/js/README.md", "clients/python/README.md"];
    pages.chain(others.map(|name| root.join(name))).collect()
}

/// The target of every `[text](target)` that stays in the repository.
fn links_of(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).filter(|target| !target.contains("://")).collect()
}

fn leads_somewhere(page: &Path, link: &str) -> bool {
    let (path, heading) = link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading)));
    let target = if path.is_empty() { page.to_owned() } else { page.parent().unwrap().join(path) };
    let Some(heading) = heading else { return target.exists() };
    let text = fs::read_to_string(&target).unwrap_or_default();
    text.lines().filter(|line| line.starts_with('#')).any(|line| anchor_of(line) == heading)
}

/// The name under which a heading can be linked to: lower case, spaces as hyphens, other marks dropped.
fn anchor_of(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    words.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}
