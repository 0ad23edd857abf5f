//! `explain`: what does an error with this code mean, and what is to be done? The pages of docs/errors, which are in the program.

use std::io::Write;

use super::print;
use crate::exit::{Diagnosis, ErrorCode, Exit, Failure};

const EXAMPLES: &str = "Examples:
  d02-source explain K04
  d02-source explain | grep -i certificate

The code stands behind an error's advice, in the log beside it (code=K04). Without a code, all of
them are listed, each with the exit code of a process that cannot go on because of it; 0: the
process goes on, or had been asked to end.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Of the error, such as K04; k4 will do
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

/// Nothing has that code.
#[derive(Debug, thiserror::Error)]
#[error("no error has the code {asked}; the nearest are {}", listed(.nearest))]
struct NoSuchCode {
    asked: String,
    nearest: Vec<ErrorCode>,
}

impl Diagnosis for NoSuchCode {
    fn code(&self) -> ErrorCode {
        ErrorCode::C20
    }

    fn advice(&self) -> &str {
        "`d02-source explain` lists all of them"
    }
}

fn listed(codes: &[ErrorCode]) -> String {
    let shown: Vec<String> = codes.iter().map(|code| format!("{code} ({})", code.title())).collect();
    shown.join(", ")
}

/// Writes to `out`, in `main` standard output. Needs no configuration and nobody else.
///
/// # Errors
/// When there is no such code, or nothing can be written.
pub fn execute(args: &Args, out: impl Write) -> Result<Exit, Failure> {
    let text = match &args.code {
        None => ErrorCode::ALL.iter().map(|code| line(*code)).collect(),
        Some(asked) => match ErrorCode::meant(asked) {
            Some(code) => plain(code.page()),
            None => {
                let (asked, nearest) = (asked.clone(), ErrorCode::nearest(asked));
                return Err(NoSuchCode { asked, nearest }.into());
            }
        },
    };
    print::whole(out, &text)?;
    Ok(Exit::Done)
}

fn line(code: ErrorCode) -> String {
    format!("{code}  exit {}  {}\n", code.exit().code(), code.title())
}

/// A page as a terminal shows it: without marks, and with links as the places that they lead to.
fn plain(page: &str) -> String {
    let page = page.trim_start_matches("# ").replace("**", "");
    let (mut text, mut rest) = (String::new(), page.as_str());
    while let Some((before, label, target, after)) = next_link(rest) {
        text.push_str(before);
        text.push_str(label);
        let place = match target.strip_suffix(".md") {
            Some(code) if code == label => format!(" (d02-source explain {code})"),
            _ => format!(" ({})", from_root(target)),
        };
        text.push_str(&place);
        rest = after;
    }
    text.push_str(rest);
    text
}

/// `before [label](target) after`, the first of them.
fn next_link(text: &str) -> Option<(&str, &str, &str, &str)> {
    let (middle, _) = text.match_indices("](").next()?;
    let begin = text[..middle].rfind('[')?;
    let end = middle + text[middle..].find(')')?;
    Some((
        &text[..begin],
        &text[begin + 1..middle],
        &text[middle + 2..end],
        &text[end + 1..],
    ))
}

/// A link of a page in docs/errors, from the project's root.
fn from_root(target: &str) -> String {
    match (target.strip_prefix("../../"), target.strip_prefix("../")) {
        (Some(path), _) => path.to_owned(),
        (None, Some(path)) => format!("docs/{path}"),
        (None, None) => format!("docs/errors/{target}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(code: Option<&str>) -> Result<String, Failure> {
        let mut out = Vec::new();
        let code = code.map(str::to_owned);
        execute(&Args { code }, &mut out).map(|_| String::from_utf8(out).expect("text"))
    }

    #[test]
    fn a_code_is_explained_however_it_is_spelt() {
        let page = explain(Some("K04")).expect("a page");
        assert!(page.starts_with("K04: ") && page.contains("- Says: "), "{page}");
        for spelt in ["k04", "K4", "k4"] {
            assert_eq!(explain(Some(spelt)), Ok(page.clone()), "{spelt}");
        }
    }

    #[test]
    fn without_a_code_all_of_them_are_listed_with_their_exit_codes() {
        let list = explain(None).expect("a list");
        assert_eq!(list.lines().count(), ErrorCode::ALL.len());
        assert!(list.contains("C05  exit 2  "), "{list}");
    }

    #[test]
    fn an_unknown_code_is_wrong_usage_and_the_nearest_are_named() {
        let nearest = |asked: &str| -> Vec<&str> { ErrorCode::nearest(asked).iter().map(|code| code.name()).collect() };
        assert_eq!(nearest("K18"), ["K17", "K16", "K15"]);
        assert_eq!(nearest("KO4")[0], "K04");
        assert_eq!(nearest("40k").len(), 3);
        for asked in ["K18", "", "K", "certificate", "Ä7", "K004"] {
            let failure = explain(Some(asked)).expect_err("no such code");
            assert_eq!(failure.exit(), Exit::Usage);
            let name = ErrorCode::nearest(asked)[0].name();
            assert!(failure.text().contains(name), "{failure}");
        }
    }

    #[test]
    fn links_are_shown_as_the_places_that_they_lead_to() {
        let page = "# K09: an ACL\n\n- **Do:** see [ACLs](../operations/kafka.md#acls), [K05](K05.md) and\n  [keys](../../config/d02-source.toml).\n";
        assert_eq!(
            plain(page),
            "K09: an ACL\n\n- Do: see ACLs (docs/operations/kafka.md#acls), K05 (d02-source explain K05) and\n  keys (config/d02-source.toml).\n"
        );
    }
}
