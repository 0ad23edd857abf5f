//! What does the binary say about its configuration? Exit code 2, every error at once, no secret anywhere.

use std::process::{Command, Output};

use d02_source::simulator::LenderOptions;
use tempfile::TempDir;

use crate::support::world::World;

const LENDER: &str = "[lenders.acme]\nemail = \"exports@acme.example\"\npassword = \"hunter2-file\"\n";

/// The binary with one configuration file and nothing from outside; its path in the output becomes `d02.toml`.
fn run(toml: &str, args: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("d02.toml");
    std::fs::write(&path, toml).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_d02-source"));
    command.env_clear().envs(environment.iter().copied());
    let output = command
        .arg("--config")
        .arg(&path)
        .args(args)
        .output()
        .expect("the binary runs");
    let text = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).expect("text");
        text.replace(&path.display().to_string(), "d02.toml")
    };
    let Output { status, stdout, stderr } = output;
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

/// Refused with 2, exactly this text and the way to the page of `code`, by every command that reads the configuration.
#[track_caller]
fn refused(toml: &str, environment: &[(&str, &str)], expected: &str, code: &str) {
    for command in [&["run"][..], &["setup"], &["cursor", "show"], &["config", "show"]] {
        let (exit, stdout, stderr) = run(toml, command, environment);
        assert_eq!((exit, stdout.as_str()), (2, ""), "{command:?}");
        told(
            &stderr,
            &format!("error: the configuration cannot be used{expected}"),
            code,
        );
    }
}

/// Exactly this text, and behind it what to do and the code.
#[track_caller]
fn told(stderr: &str, expected: &str, code: &str) {
    let (text, way_on) = stderr.split_once("\n  → ").expect("what to do");
    assert_eq!(text, expected);
    let explain = format!(" (d02-source explain {code})\n");
    assert!(way_on.ends_with(&explain) && way_on.lines().count() == 1, "{stderr}");
}

#[test]
fn an_unknown_key_ends_with_2_and_its_nearest_name() {
    refused(
        &format!("[upstream]\npage_sze = 500\n{LENDER}"),
        &[],
        ": upstream.page_sze (file d02.toml): there is no such key; the nearest is upstream.page_size",
        "C05",
    );
    refused(
        LENDER,
        &[("D02__UPSTREAM__PAGE_SZE", "500")],
        ": D02__UPSTREAM__PAGE_SZE (environment): there is no such key; the nearest is D02__UPSTREAM__PAGE_SIZE",
        "C05",
    );
}

#[test]
fn all_errors_come_at_once_and_none_shows_a_secret() {
    let toml = "nam = 1\n[upstream]\nbase_url = \"http://v3-api.cleargrid.ai\"\n\
                [lenders.acme]\nemail = \"nobody\"\npassword = [\"hunter2\"]\n[kafka.properties]\nacks = \"1\"\n";
    let (code, stdout, stderr) = run(toml, &["--set", "transaction.max_rows=0", "run"], &[("D02__NAME", "")]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(
        stderr.starts_with("error: the configuration cannot be used, 7 errors:\n  - "),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 9, "{stderr}");
    for text in [
        "nam (file d02.toml): there is no such key; the nearest is name (C05)\n",
        "name = \"\" (environment variable D02__NAME): allowed is 1 to 100 letters",
        "upstream.base_url = \"http://v3-api.cleargrid.ai\" (file d02.toml): allowed is ",
        "lenders.acme.email = \"nobody\" (file d02.toml): allowed is ",
        "lenders.acme.password (file d02.toml): the value is not shown because it may be secret",
        "transaction.max_rows = \"0\" (--set): allowed is ",
        "kafka.properties: acks (file d02.toml) is not yours to set: ",
    ] {
        assert!(stderr.contains(text), "no `{text}` in\n{stderr}");
    }
    assert!(!stderr.contains("hunter2"), "{stderr}");
}

#[test]
fn a_property_that_would_break_a_promise_ends_with_2_and_the_reason() {
    refused(
        &format!("[kafka.properties]\n\"enable.idempotence\" = \"false\"\n{LENDER}"),
        &[],
        ": kafka.properties: enable.idempotence (file d02.toml) is not yours to set: \
         without it records double and change order",
        "C12",
    );
}

#[test]
fn an_upstream_without_tls_ends_with_2_except_on_this_machine() {
    let toml = |url: &str| format!("[upstream]\nbase_url = \"{url}\"\n{LENDER}");
    for url in [
        "http://v3-api.cleargrid.ai",
        "http://localhost.example",
        "ftp://v3-api.cleargrid.ai",
    ] {
        let (code, _, stderr) = run(&toml(url), &["config", "show"], &[]);
        assert_eq!(code, 2, "{stderr}");
        assert!(
            stderr.contains(&format!("upstream.base_url = \"{url}\" (file d02.toml): allowed is ")),
            "{stderr}"
        );
        assert!(stderr.contains("https"), "{stderr}");
    }
    for url in [
        "https://v3-api.cleargrid.ai",
        "http://localhost:8099",
        "http://127.0.0.1:8099",
    ] {
        assert_eq!(run(&toml(url), &["config", "show"], &[]).0, 0, "{url}");
    }
}

#[test]
fn a_command_that_needs_lenders_ends_with_2_without_one_and_config_show_does_not() {
    for command in [
        &["run"][..],
        &["setup"],
        &["cursor", "show"],
        &["cursor", "reset", "acme"],
    ] {
        let (code, stdout, stderr) = run("", command, &[]);
        let expected = "error: the configuration cannot be used: no lender is configured: in a file, [lenders.NAME] with \
                        email and password_file; in the environment, D02__LENDERS__NAME__EMAIL and \
                        D02__LENDERS__NAME__PASSWORD_FILE";
        assert_eq!((code, stdout.as_str()), (2, ""), "{command:?}");
        told(&stderr, expected, "C10");
    }
    assert_eq!(run("", &["config", "show"], &[]).0, 0);
}

#[test]
fn a_file_that_is_missing_or_no_toml_ends_with_2_and_is_not_quoted() {
    let (code, _, stderr) = run("password = \"hunter2", &["config", "show"], &[]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("the configuration file d02.toml is not valid TOML, line 1: "),
        "{stderr}"
    );
    assert!(!stderr.contains("hunter2"), "{stderr}");
    let (code, _, stderr) = run(LENDER, &["--config", "/nowhere/d02.toml", "run"], &[]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("cannot read the configuration file /nowhere/d02.toml: No such file"),
        "{stderr}"
    );
}

#[test]
fn config_show_redacts_secrets_of_every_layer_and_names_the_layer() {
    for (args, environment, layer) in [
        (&[][..], &[][..], "file d02.toml"),
        (
            &[],
            &[("D02__LENDERS__ACME__PASSWORD", "hunter2-environment")],
            "environment variable D02__LENDERS__ACME__PASSWORD",
        ),
        (&["--set", "lenders.acme.password=hunter2-set"], &[], "--set"),
    ] {
        let toml = format!(
            "{LENDER}[upstream]\nproxy = \"http://user:hunter2-proxy@proxy:3128\"\n\
             [kafka.properties]\n\"sasl.password\" = \"hunter2-sasl\"\n\
             [schema_registry]\nusername = \"registry\"\npassword = \"hunter2-registry\"\n"
        );
        let show = [args, &["config", "show"]].concat();
        let (code, stdout, stderr) = run(&toml, &show, environment);
        assert_eq!((code, stderr.as_str()), (0, ""));
        assert!(
            stdout.contains(&format!("password = \"(redacted)\"  # {layer}\n")),
            "{stdout}"
        );
        assert!(
            stdout.contains("\"sasl.password\" = \"(redacted)\"  # file d02.toml\n"),
            "{stdout}"
        );
        assert!(!stdout.contains("hunter2"), "{stdout}");

        let (code, stdout, _) = run(&toml, &[&show[..], &["--json"]].concat(), environment);
        let shown: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
        let expected = serde_json::json!({"value": "(redacted)", "from": layer});
        assert_eq!((code, &shown["lenders.acme.password"]), (0, &expected));
        assert!(!stdout.contains("hunter2"), "{stdout}");
    }
}

#[test]
fn the_help_of_every_command_has_an_example() {
    let help = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_d02-source"))
            .args(args)
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    // Walks down the tree as a person would, so that a new command is not forgotten.
    let mut commands = vec![Vec::new()];
    let mut leaf_count = 0;
    while let Some(command) = commands.pop() {
        let text = help(&[&command[..], &["--help"]].concat());
        let Some((_, list)) = text.split_once("Commands:\n") else {
            leaf_count += 1;
            let example = text
                .split_once("Example")
                .unwrap_or_else(|| panic!("no example for {command:?}:\n{text}"))
                .1;
            assert!(
                example.contains("d02-source ") && example.contains(&command.join(" ")),
                "{text}"
            );
            continue;
        };
        let names = list.lines().take_while(|line| !line.is_empty());
        // Longer descriptions go on in lines that are indented further.
        for name in names
            .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
        {
            let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
            commands.push([&command[..], &[name]].concat());
        }
    }
    assert!(leaf_count >= 6, "{leaf_count}");
}

#[test]
fn completions_are_scripts_that_know_every_command_and_a_manual() {
    let script = |shell: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_d02-source"))
            .args(["completions", shell])
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = script(shell);
        for name in ["cursor", "republish", "until-caught-up"] {
            assert!(script.contains(name), "{shell} does not know {name}");
        }
    }
    let manual = script("man");
    for page in ["d02-source", "d02-source-run", "d02-source-cursor-export"] {
        let (head, name) = (format!(".TH {page} 1 "), page.replace('-', "\\-"));
        assert!(manual.contains(&head), "no page {page}");
        assert!(
            manual.contains(&format!(".SH NAME\n{name} \\- ")),
            "{page} does not say what it is"
        );
    }
    // As bash asks for them at Tab.
    let complete = |words: &[&str]| {
        let mut bash = Command::new("bash");
        bash.arg("-c")
            .arg(
                r#"eval "$1"; shift
                COMP_WORDS=(d02-source "$@") COMP_CWORD=$#
                "$(complete -p d02-source | sed 's/.*-F \([^ ]*\).*/\1/')" d02-source "${@: -1}" "${@: -2:1}"
                printf '%s\n' "${COMPREPLY[@]}""#,
            )
            .args(["bash", &script("bash")])
            .args(words);
        let output = bash.output().expect("bash");
        let said = String::from_utf8(output.stdout).expect("text");
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["rep"]), ["replay", "republish"]);
    assert_eq!(complete(&["cursor", "ex"]), ["export"]);
    assert_eq!(complete(&["tail", "--format", "t"]), ["table"]);
}

#[test]
fn wrong_usage_ends_with_2() {
    for args in [
        &[][..],
        &["rnu"],
        &["run", "--until-caught-up", "again"],
        &["run", "--log", "xml"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_d02-source"))
            .args(args)
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn a_log_in_json_has_an_object_a_line_with_level_lender_and_message() {
    let world = World::new(&[50]);
    let mut source = world.command(&["--log", "json", "run", "--until-caught-up"], &[]);
    source.expect_exit(0);
    let log = source.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(
        lines
            .iter()
            .all(|line| line["level"].is_string() && line["message"].is_string()),
        "{log}"
    );
    let restored = |line: &&serde_json::Value| line["message"] == "claimed and restored";
    let restored = lines.iter().find(restored).expect("the line of a start");
    assert_eq!(
        (&restored["lender"], &restored["account_count"]),
        (&"lender-1".into(), &0.into())
    );
}

#[test]
fn the_configuration_for_docker_compose_fits_the_simulator() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/compose");
    let toml = std::fs::read_to_string(directory.join("d02-source.toml")).expect("a file");
    let (code, stdout, stderr) = run(&toml, &["config", "show"], &[]);
    // Also no warning.
    assert_eq!((code, stderr.as_str()), (0, ""));
    for number in [1, 2] {
        let lender = LenderOptions::numbered(number);
        let name = &lender.subdomain;
        for line in [
            format!("[lenders.{name}]"),
            format!("email = \"{}\"", lender.email),
            format!("password_file = \"/run/secrets/{name}\""),
        ] {
            assert!(stdout.contains(&line), "no {line} in\n{stdout}");
        }
        let password = std::fs::read_to_string(directory.join("secrets").join(name)).expect("a file");
        assert_eq!(password, format!("{}\n", lender.password));
    }
}
