//! Which error is it? A code that stays the same for ever, and the page that explains it.

use std::fmt;

use super::status::Exit;

/// Each code with how a process ends that cannot go on because of it. `Done`: the process goes on, or had been asked to end.
macro_rules! error_codes {
    ($($code:ident $exit:ident,)+) => {
        /// One letter for whom or what it is about, and a number. A code is never given another meaning, nor its number used
        /// again.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode {
            $($code,)+
        }

        impl ErrorCode {
            pub const ALL: &[Self] = &[$(Self::$code,)+];

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$code => stringify!($code),)+
                }
            }

            pub fn exit(self) -> Exit {
                match self {
                    $(Self::$code => Exit::$exit,)+
                }
            }

            /// The page that explains it, as it stands in its file.
            pub fn page(self) -> &'static str {
                match self {
                    $(Self::$code => include_str!(concat!("../../docs/errors/", stringify!($code), ".md")),)+
                }
            }
        }
    };
}

error_codes! {
    // Configuration and arguments.
    C01 Usage, C02 Usage, C03 Usage, C04 Usage, C05 Usage, C06 Usage, C07 Usage, C08 Usage, C09 Usage, C10 Usage,
    C11 Usage, C12 Usage, C13 Usage, C14 Usage, C15 Usage, C16 Usage, C17 Usage, C18 Usage, C19 Usage, C20 Usage,
    C21 Usage,
    // Upstream.
    U01 Failed, U02 Refused, U03 Failed, U04 Failed, U05 Failed, U06 Failed, U07 Failed, U08 Done, U09 Refused,
    U10 Refused, U11 Refused, U12 Refused, U13 Usage, U14 Refused, U15 Done, U16 Done, U17 Failed, U18 Failed,
    U19 Failed, U20 Failed, U21 Failed, U22 Refused, U23 Failed, U24 Done, U25 Done, U26 Failed, U27 Failed,
    U28 Done,
    // Dead letters. (D would look like the dataset.)
    L01 Usage, L02 Usage, L03 Done,
    // The schema registry.
    R01 Usage, R02 Usage, R03 Usage, R04 Failed, R05 Usage, R06 Usage, R07 Usage, R08 Usage, R09 Usage, R10 Usage,
    R11 Usage, R12 Usage,
    // Kafka: clients, authentication, ACLs, transactions.
    K01 Usage, K02 Usage, K03 Failed, K04 Failed, K05 Failed, K06 Failed, K07 Failed, K08 Failed, K09 Usage, K10 Usage,
    K11 Failed, K12 Failed, K13 Failed, K14 Failed, K15 Failed, K16 Done, K17 Failed,
    K21 Failed, K22 Done, K23 Failed, K24 Done, K25 Usage, K26 Usage, K27 Failed, K28 Done,
    // Topics.
    T01 Usage, T02 Usage, T03 Usage, T04 Usage, T05 Usage, T06 Usage, T07 Usage, T08 Failed, T09 Usage, T10 Done,
    // What is stored: cursor records, accounts; and who may write them.
    S01 Usage, S02 Usage, S03 Usage, S04 Usage, S05 Usage, S06 Usage, S07 Usage, S08 Usage, S09 Usage, S10 TakenOver,
    S11 Usage, S12 Done, S13 Usage, S14 Usage, S15 Usage, S16 Done, S17 Done, S18 Failed, S19 Usage, S20 Done,
    S23 Usage, S24 Failed,
    // The process.
    P01 Usage, P02 Usage, P03 Failed, P04 Failed, P05 Failed, P06 Failed, P07 Failed, P08 Done, P09 Failed, P10 Done,
    P11 Usage, P12 Failed,
    // Beside the source: the simulator, the demo.
    B01 Failed, B02 Usage, B03 Failed,
}

/// How many are named where none is meant by what was asked for.
const NEAREST: usize = 3;

impl ErrorCode {
    /// What it is about, from its page.
    pub fn title(self) -> &'static str {
        let head = self.page().lines().next().unwrap_or_default();
        head.split_once(": ").map_or(head, |(_, title)| title)
    }

    /// The one that `text` means: `K07`, `k07`, `k7`.
    pub(crate) fn meant(text: &str) -> Option<Self> {
        let name = spelt(text);
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }

    /// Those that `text` is most like.
    pub(crate) fn nearest(text: &str) -> Vec<Self> {
        let name = spelt(text);
        let mut codes = Self::ALL.to_vec();
        // Those of one letter are told apart by their numbers.
        let number = |name: &str| name.get(1..).and_then(|digits| digits.parse::<u32>().ok());
        let asked = number(&name).unwrap_or_default();
        codes.sort_by_key(|code| {
            let code = code.name();
            let apart = number(code).unwrap_or_default().abs_diff(asked);
            (strsim::osa_distance(code, &name), !name.starts_with(&code[..1]), apart)
        });
        codes.truncate(NEAREST);
        codes
    }
}

/// As codes are spelt: a capital letter, two digits.
fn spelt(text: &str) -> String {
    let text = text.trim().to_uppercase();
    let digits = text.strip_prefix(|letter: char| letter.is_ascii_uppercase());
    match digits {
        Some(digit) if digit.len() == 1 && digit.starts_with(|char: char| char.is_ascii_digit()) => {
            format!("{}0{digit}", &text[..1])
        }
        Some(_) | None => text,
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
