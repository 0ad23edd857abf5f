//! What is printed of what was found? Ids, times, reasons and the names of fields; nothing of what stands in a row.

use std::cmp::Ordering;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::command::tail;
use crate::exit::Exit;
use crate::progress::Timestamp;
use crate::verify::{DeadRowFinding, FindingKind, Findings, Listed, Report};

/// One object, of all lenders.
pub(super) fn json(reports: &[Report]) -> Value {
    let lenders: Vec<Value> = reports.iter().map(lender_json).collect();
    let is_equal = reports.iter().all(|report| report.exit() == Exit::Done);
    json!({ "equal": is_equal, "lenders": lenders })
}

fn lender_json(report: &Report) -> Value {
    let found = match &report.found {
        Ok(found) => found,
        Err(failure) => {
            return json!({
                "lender": report.lender, "error": failure.text(), "code": failure.code().name(),
                "advice": failure.advice(), "exit": failure.exit().code(),
            });
        }
    };
    let dead: Vec<Value> = found.dead.listed.iter().map(dead_json).collect();
    let mut json = json!({
        "lender": report.lender, "public_id": found.public_id, "topic": found.topic, "equal": found.is_equal(),
        "upstream_count": found.upstream_count, "held_count": found.held_count,
        "before_start_from_count": found.ignored_count,
        "dead_lettered": {
            "count": found.dead.count, "not_in_dead_letters_count": found.unburied_count,
            "topic": found.dead_letters_topic, "topic_is_cut": found.is_cut, "rows": dead,
        },
        "repair": { "commands": found.repair.commands, "notes": found.repair.notes },
    });
    for kind in FindingKind::ALL {
        let listed = found.kinds.get(&kind).map_or(&[][..], |counted| &counted.listed);
        let accounts: Vec<Value> = listed.iter().map(listed_json).collect();
        let count = match kind {
            FindingKind::Changed => found.changed_count(),
            _ => found.count(kind),
        };
        json[kind.name()] = json!({ "count": count, "accounts": accounts });
    }
    json
}

fn listed_json(listed: &Listed) -> Value {
    json!({
        "public_id": listed.public_id, "upstream_updated_at": listed.upstream_at, "held_updated_at": listed.held_at,
    })
}

fn dead_json(row: &DeadRowFinding) -> Value {
    json!({
        "public_id": row.public_id, "upstream_updated_at": row.updated_at, "held_updated_at": row.held_at,
        "reason": row.reason, "field": row.field, "in_dead_letters": row.is_buried,
    })
}

/// Tables for people: a line a lender, then a line for each account that is listed, then what to do.
pub(super) fn text(reports: &[Report], limit: usize) -> String {
    let found: Vec<(&str, &Findings)> = reports
        .iter()
        .filter_map(|report| Some((&*report.lender, report.found.as_ref().ok()?)))
        .collect();
    let mut text = String::new();
    if found.is_empty() {
        return text;
    }
    put_table(&mut text, &summary(&found), 1);
    let lines: Vec<Vec<String>> = found
        .iter()
        .flat_map(|(lender, found)| lines(lender, found, limit))
        .collect();
    if !lines.is_empty() {
        let head = ["LENDER", "FOUND", "ACCOUNT", "UPSTREAM", "HELD", ""].map(str::to_owned);
        text.push('\n');
        put_table(&mut text, &[&[head.to_vec()][..], &lines].concat(), usize::MAX);
    }
    for (lender, found) in found {
        text.push('\n');
        put_end(&mut text, lender, found);
    }
    text
}

fn summary(found: &[(&str, &Findings)]) -> Vec<Vec<String>> {
    let head = [
        "LENDER",
        "UPSTREAM",
        "HELD",
        "MISSING",
        "STALE",
        "DIFFERENT",
        "REGRESSED",
        "SURPLUS",
        "DEAD-LETTERED",
        "CHANGED",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (lender, found) in found {
        let mut row = vec![(*lender).to_owned()];
        row.extend([found.upstream_count, found.held_count].map(|count| count.to_string()));
        let wrong = FindingKind::ALL.into_iter().filter(|kind| kind.is_difference());
        row.extend(wrong.map(|kind| found.count(kind).to_string()));
        row.extend([found.dead.count, found.changed_count()].map(|count| count.to_string()));
        rows.push(row);
    }
    rows
}

fn lines(lender: &str, found: &Findings, limit: usize) -> Vec<Vec<String>> {
    let shown = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    let more = |name: &str, count: usize, listed: usize| {
        (count > listed).then(|| {
            let hint = format!("and {} more: --limit {} lists them", count - listed, limit.max(count));
            vec![lender.to_owned(), name.to_owned(), hint]
        })
    };
    let mut lines = Vec::new();
    for kind in FindingKind::ALL {
        let Some(counted) = found.kinds.get(&kind) else {
            continue;
        };
        let name = kind.word();
        lines.extend(counted.listed.iter().map(|listed| {
            let id = printable(&listed.public_id);
            let cells = [lender, name, &id, &shown(listed.upstream_at), &shown(listed.held_at)];
            cells.map(str::to_owned).to_vec()
        }));
        lines.extend(more(name, counted.count, counted.listed.len()));
    }
    let name = "dead-lettered";
    lines.extend(found.dead.listed.iter().map(|row| {
        let id = row.public_id.as_deref().map_or_else(|| "-".to_owned(), printable);
        let place = if row.is_buried { "" } else { "; NOT in the dead letters" };
        let note = printable(&format!("{}{place}", row.reason));
        let cells = [lender, name, &id, &shown(row.updated_at), &shown(row.held_at), &note];
        cells.map(str::to_owned).to_vec()
    }));
    lines.extend(more(name, found.dead.count, found.dead.listed.len()));
    lines
}

/// What it comes to, and what to do.
fn put_end(text: &mut String, lender: &str, found: &Findings) {
    let mut put = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a String takes everything");
    if found.is_equal() {
        put(format_args!("{lender}: {} holds what upstream shows", found.topic));
    } else {
        put(format_args!(
            "{lender}: {} does not hold what upstream shows:",
            found.topic
        ));
    }
    for kind in FindingKind::ALL {
        let count = found.count(kind);
        if count > 0 {
            put(format_args!("  {count} {}: {}", kind.word(), kind.meaning()));
        }
    }
    if found.moved_count > 0 {
        put(format_args!(
            "  {} rows that could not be accounts changed while we looked",
            found.moved_count
        ));
    }
    if found.dead.count > 0 {
        put(format_args!(
            "  {} dead-lettered: upstream's rows cannot be accounts; what is held of them is the last good record",
            found.dead.count
        ));
    }
    if found.unburied_count > 0 {
        let (count, topic) = (found.unburied_count, &found.dead_letters_topic);
        let why = if found.is_cut {
            "retention has removed letters from it"
        } else {
            "so they are nowhere"
        };
        put(format_args!("  {count} of the dead-lettered not in {topic}: {why}"));
    }
    if found.ignored_count > 0 {
        put(format_args!(
            "  {} older than start_from are left out",
            found.ignored_count
        ));
    }
    if !found.repair.commands.is_empty() {
        put(format_args!("to repair it:"));
    }
    for command in &found.repair.commands {
        put(format_args!("  {command}"));
    }
    for note in &found.repair.notes {
        put(format_args!("  ({note})"));
    }
}

/// Columns as wide as their widest cell, but the last; those from `numbers_from` on are aligned to the right.
fn put_table(text: &mut String, rows: &[Vec<String>], numbers_from: usize) {
    let count = |cell: &String| cell.chars().count();
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| row.len() > 3);
        cells.filter_map(|row| row.get(column).map(count)).max().unwrap_or(0)
    };
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let fill = " ".repeat(width(column).saturating_sub(count(cell)));
            let [before, behind] = match column.cmp(&numbers_from) {
                Ordering::Less => ["", &*fill],
                Ordering::Equal | Ordering::Greater => [&*fill, ""],
            };
            line.push_str(before);
            line.push_str(cell);
            line.push_str(behind);
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Without what a terminal obeys: ids are upstream's.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if tail::is_unprintable(char) {
            shown.extend(char.escape_unicode());
        } else {
            shown.push(char);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Failure;
    use crate::verify::Repair;

    fn listed(public_id: &str, upstream_at: Option<i64>, held_at: Option<i64>) -> Listed {
        Listed {
            public_id: public_id.to_owned(),
            upstream_at: upstream_at.map(Timestamp),
            held_at: held_at.map(Timestamp),
        }
    }

    fn found() -> Findings {
        const AT: i64 = 1_780_000_000_123;
        let mut found = Findings {
            public_id: "11111111-1111-4111-8111-111111111111".to_owned(),
            topic: "cleargrid.d02.accounts".to_owned(),
            dead_letters_topic: "cleargrid.d02.dead-letters".to_owned(),
            upstream_count: 1_000,
            held_count: 998,
            ..Findings::default()
        };
        let mut add = |kind: FindingKind, listed: Listed| found.kinds.entry(kind).or_default().add(listed, 2);
        for number in [3, 1, 2] {
            add(
                FindingKind::Missing,
                listed(&format!("65f0c0ffee65f0c0ffee65f{number}"), Some(AT), None),
            );
        }
        add(
            FindingKind::Stale,
            listed("65f0c0ffee65f0c0ffee65f4", Some(AT), Some(AT - 1_000)),
        );
        add(FindingKind::Different, listed("an\u{1b}[2Jid", Some(AT), Some(AT)));
        add(FindingKind::Surplus, listed("65f0c0ffee65f0c0ffee65f6", None, Some(AT)));
        add(
            FindingKind::Changed,
            listed("65f0c0ffee65f0c0ffee65f7", Some(AT), Some(AT - 5)),
        );
        found.dead.add(
            DeadRowFinding {
                public_id: Some("65f0c0ffee65f0c0ffee65f8".to_owned()),
                updated_at: Some(Timestamp(AT)),
                reason: "`total_amount` is not an exact 64-bit whole number of minor units".to_owned(),
                field: Some("total_amount".to_owned()),
                is_buried: true,
                held_at: Some(Timestamp(AT - 60_000)),
            },
            2,
        );
        found.dead.add(
            DeadRowFinding {
                public_id: None,
                updated_at: None,
                reason: "the row is not a JSON object".to_owned(),
                field: None,
                is_buried: false,
                held_at: None,
            },
            2,
        );
        found.unburied_count = 1;
        found.kinds.values_mut().for_each(|counted| counted.list(2));
        found.dead.list(2);
        found.repair = Repair {
            commands: vec!["d02-source cursor reset acme".to_owned(), "d02-source run".to_owned()],
            notes: vec!["a source runs: stop it before the reset, or give `cursor reset` --force"],
        };
        found
    }

    fn reports() -> Vec<Report> {
        let clean = Findings {
            topic: "cleargrid.d02.accounts".to_owned(),
            upstream_count: 7,
            held_count: 7,
            ..Findings::default()
        };
        let failure = Failure::from(crate::upstream::UpstreamError::OtherLender {
            lender: "gamma".to_owned(),
            wanted: "1".to_owned(),
            found: "2".to_owned(),
        });
        [("acme", Ok(found())), ("beta", Ok(clean)), ("gamma", Err(failure))]
            .map(|(lender, found)| Report {
                lender: lender.to_owned(),
                found,
            })
            .into()
    }

    #[test]
    fn the_table_is_the_golden_one() {
        assert_eq!(text(&reports(), 2), include_str!("../../../tests/golden/verify.txt"));
    }

    #[test]
    fn the_json_is_the_golden_one() {
        let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/verify.json")).expect("JSON");
        assert_eq!(json(&reports()), golden);
    }

    #[test]
    fn only_what_is_wrong_is_a_failure() {
        let exit = |found: Findings| {
            let (lender, found) = (String::new(), Ok(found));
            Report { lender, found }.exit()
        };
        assert_eq!(exit(Findings::default()), Exit::Done);
        for kind in FindingKind::ALL {
            let mut found = Findings::default();
            found.kinds.entry(kind).or_default().add(listed("a", None, None), 1);
            let expected = if kind == FindingKind::Changed {
                Exit::Done
            } else {
                Exit::Failed
            };
            assert_eq!(exit(found), expected, "{kind:?}");
        }
        let dead = |unburied_count, is_cut| Findings {
            unburied_count,
            is_cut,
            ..Findings::default()
        };
        assert_eq!(exit(dead(0, false)), Exit::Done);
        assert_eq!(exit(dead(1, false)), Exit::Failed);
        // It may have been there until retention removed it.
        assert_eq!(exit(dead(1, true)), Exit::Done);
        let codes: Vec<u8> = reports().iter().map(|report| report.exit().code()).collect();
        assert_eq!(codes, [1, 0, 4]);
    }
}
