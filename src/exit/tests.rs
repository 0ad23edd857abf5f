//! Do the codes, their pages and the sources say the same?

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sources without their tests, a string that goes on in the next line as one.
fn sources() -> BTreeMap<PathBuf, String> {
    let mut folders = vec![root().join("src")];
    let mut files = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).expect("text");
                let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
                files.insert(path, joined(text));
            }
        }
    }
    files
}

fn joined(text: &str) -> String {
    let mut parts = text.split("\\\n");
    let mut text = parts.next().unwrap_or_default().to_owned();
    parts.for_each(|part| text.push_str(part.trim_start()));
    text.replace("\\\"", "\"")
}

#[test]
fn every_code_has_a_page_of_its_own_and_every_page_a_code() {
    let files: BTreeSet<String> = fs::read_dir(root().join("docs/errors"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    let pages = ErrorCode::ALL.iter().map(|code| format!("{code}.md"));
    assert_eq!(files, pages.chain(["README.md".to_owned()]).collect());
    for code in ErrorCode::ALL {
        let lines: Vec<&str> = code.page().lines().collect();
        assert!((5..=15).contains(&lines.len()), "{code}: {} lines", lines.len());
        assert_eq!((lines[0], lines[1]), (&*format!("# {code}: {}", code.title()), ""));
        let parts = lines
            .iter()
            .filter_map(|line| line.strip_prefix("- **")?.split_once(":**"));
        let parts: Vec<&str> = parts.map(|(part, _)| part).collect();
        let expected = ["Says", "Means", "Then", "Do"];
        assert!(
            parts == expected || parts == [expected[0], expected[2], expected[3]],
            "{code}: {parts:?}"
        );
    }
    let titles: BTreeSet<&str> = ErrorCode::ALL.iter().map(|code| code.title()).collect();
    assert_eq!(titles.len(), ErrorCode::ALL.len(), "no two have one title");
}

#[test]
fn a_page_names_the_exit_code_that_its_code_has() {
    for code in ErrorCode::ALL.iter().filter(|code| code.exit() != Exit::Done) {
        let (_, then) = code.page().split_once("**Then:**").expect("what follows");
        let (then, _) = then.split_once("**Do:**").expect("what to do");
        let then = then.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(then.contains(&format!("exit {}", code.exit().code())), "{code}: {then}");
    }
}

#[test]
fn the_index_has_a_line_for_every_page() {
    let index = fs::read_to_string(root().join("docs/errors/README.md")).expect("a file");
    let found: Vec<&str> = index.lines().filter(|line| line.starts_with("| [")).collect();
    let line = |code: &ErrorCode| format!("| [{code}]({code}.md) | {} | {} |", code.title(), code.exit().code());
    assert_eq!(found, ErrorCode::ALL.iter().map(line).collect::<Vec<_>>());
}

/// So no code has two meanings, and none is without one. Who means the same says so by a name.
#[test]
fn a_code_stands_once_in_the_sources() {
    let mut places: BTreeMap<&str, Vec<String>> = ErrorCode::ALL.iter().map(|code| (code.name(), Vec::new())).collect();
    for (path, text) in &sources() {
        for (place, _) in text.match_indices("ErrorCode::") {
            let name = &text[place + "ErrorCode::".len()..];
            if let Some(found) = name.get(..3).and_then(|name| places.get_mut(name)) {
                found.push(path.display().to_string());
            }
        }
    }
    places.retain(|_, found| found.len() != 1);
    assert!(places.is_empty(), "{places:#?}");
}

#[test]
fn what_a_page_says_that_an_error_says_stands_in_the_sources() {
    let sources: String = sources().into_values().collect();
    let (mut fragments, mut missing) = (0, Vec::new());
    for code in ErrorCode::ALL {
        let (_, says) = code.page().split_once("**Says:**").expect("what it says");
        let says = says.split("\n- **").next().unwrap_or_default();
        let says = says.split_whitespace().collect::<Vec<_>>().join(" ");
        for fragment in quoted(&says).iter().flat_map(|text| text.split('…')) {
            let fragment = fragment.trim();
            if fragment.chars().filter(|char| char.is_alphabetic()).count() < 3 {
                continue;
            }
            fragments += 1;
            if !sources.contains(fragment) {
                missing.push(format!("{code}: {fragment}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(
        fragments > ErrorCode::ALL.len(),
        "{fragments} are too few to prove anything"
    );
}

/// What stands in back quotes, one or two.
fn quoted(text: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(begin) = rest.find('`') {
        let mark = if rest[begin..].starts_with("``") { "``" } else { "`" };
        let inner = &rest[begin + mark.len()..];
        let Some(end) = inner.find(mark) else { break };
        found.push(inner[..end].to_owned());
        rest = &inner[end + mark.len()..];
    }
    found
}

#[test]
fn a_line_of_the_log_with_advice_has_a_code() {
    let mut count = 0;
    for (path, text) in &sources() {
        for begin in ["tracing::warn!(", "tracing::error!("] {
            for (place, _) in text.match_indices(begin) {
                let call = &text[place..text[place..].find(");").map_or(text.len(), |end| place + end)];
                // Before the text, which is in quotes.
                let fields = call.split('"').next().unwrap_or_default();
                if fields.contains("advice") {
                    count += 1;
                    assert!(fields.contains("code"), "{}: {call}", path.display());
                }
            }
        }
    }
    assert!(count > 10, "{count} are too few to prove anything");
}

#[test]
fn a_diagnosis_has_no_arm_for_all_the_rest() {
    let mut count = 0;
    for (path, text) in &sources() {
        for (place, _) in text.match_indices(" Diagnosis for ") {
            let block = &text[place..];
            let block = &block[..block.find("\n}").unwrap_or(block.len())];
            count += 1;
            assert!(!block.contains("\n            _ =>"), "{}: {block}", path.display());
        }
    }
    assert!(count > 20, "{count} are too few to prove anything");
}

#[test]
fn the_worst_exit_of_several_lenders_is_the_process_exit() {
    let all = [Exit::Done, Exit::Failed, Exit::TakenOver, Exit::Refused, Exit::Usage];
    let worst: Vec<_> = (1..=all.len())
        .map(|count| Exit::of_all(&all[..count]).code())
        .collect();
    assert_eq!(worst, [0, 1, 3, 4, 2]);
}
