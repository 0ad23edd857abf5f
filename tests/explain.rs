//! Does an error name a code, and does the program say what that means?

use crate::support::shown::{bare, shown};
use crate::support::world::World;

/// The page of the code that an error names behind its advice.
#[track_caller]
fn explained(error: &str) -> String {
    let (_, rest) = error.split_once("(d02-source explain ").expect("the way to a page");
    let (code, _) = rest.split_once(')').expect("a code");
    let page = bare(&["explain", code]).expect(0).out;
    assert!(page.starts_with(&format!("{code}: ")), "{page}");
    page
}

#[test]
fn a_code_is_explained_in_whatever_case_and_an_unknown_one_ends_with_2_and_the_nearest() {
    let page = bare(&["explain", "K04"]).expect(0).out;
    for part in ["K04: ", "\n- Says: ", "\n- Means: ", "\n- Then: ", "\n- Do: "] {
        assert!(page.contains(part), "no `{part}` in\n{page}");
    }
    assert_eq!(bare(&["explain", "k4"]).expect(0).out, page);

    let list = bare(&["explain"]).expect(0).out;
    assert!(list.contains("\nK04  exit 1  "), "{list}");

    let unknown = bare(&["explain", "K99"]).expect(2);
    assert_eq!(unknown.out, "");
    let nearest = "error: no error has the code K99; the nearest are K";
    assert!(unknown.log.starts_with(nearest), "{}", unknown.log);
    assert!(explained(&unknown.log).contains("lists all codes"), "{}", unknown.log);
}

#[test]
fn what_keeps_a_command_from_working_names_a_code_that_can_be_explained() {
    let log = bare(&["--set", "upstream.page_sze=500", "config", "show"])
        .expect(2)
        .log;
    assert!(explained(&log).contains("there is no such key"), "{log}");
    let brokers = "kafka.bootstrap_servers=127.0.0.1:9";
    let log = bare(&["--set", brokers, "tail"]).expect(1).log;
    assert!(explained(&log).contains("the brokers do not answer in time"), "{log}");
}

#[test]
fn a_lender_that_stops_has_the_code_of_what_stopped_it_in_its_line() {
    let world = World::new(&[1]);
    let wrong = ("D02__LENDERS__LENDER_1__PASSWORD", "wrong");
    let args = ["run", "--until-caught-up"];
    let log = shown(&world, &args, &[wrong]).expect(4).log;
    let stopped = log.lines().find(|line| line.contains("stopped: ")).expect("a line");
    assert!(stopped.contains("code=U09"), "{stopped}");
    let log = shown(&world, &[&["--log", "json"][..], &args].concat(), &[wrong])
        .expect(4)
        .log;
    let lines = log.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let stopped = lines
        .filter(|line: &serde_json::Value| line["exit"] == 4)
        .collect::<Vec<_>>();
    assert_eq!(stopped.len(), 1, "{log}");
    assert_eq!(stopped[0]["code"], "U09");

    let checked = shown(&world, &["check"], &[wrong]).expect(4).out;
    let finding = checked
        .split_once("✗ upstream lender-1, login: ")
        .expect("the finding")
        .1;
    assert!(
        explained(finding).contains("upstream refuses the credentials"),
        "{checked}"
    );
}
