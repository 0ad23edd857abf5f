//! Prints records one by one, as lines or as rows of a table.

use std::io::{self, ErrorKind, Write};

use super::change;
use super::decoders::Decoders;
use super::kind::Kind;
use super::line::{self, Content};
use super::table::{self, Table};
use crate::clock;
use crate::exit::{Failure, ProcessError};
use crate::kafka;
use crate::sink::{TailError, TopicRecord};

/// Why it ends before the records do.
pub(super) enum Stop {
    /// As asked, or nobody reads any more.
    Ended,
    Failed(Failure),
}

impl From<TailError> for Stop {
    fn from(error: TailError) -> Self {
        match error {
            TailError::Kafka(kafka::Error::Interrupted) => Self::Ended,
            error => Self::Failed(error.into()),
        }
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::Ended,
            _ => Self::Failed(ProcessError::Output(error).into()),
        }
    }
}

pub(super) struct Printer<W> {
    pub out: W,
    pub kind: Kind,
    /// `None`: lines of JSON.
    pub table: Option<Table>,
    pub decoders: Decoders,
    pub count: u64,
    pub undecodable: u64,
}

impl<W: Write> Printer<W> {
    /// The head of a table whose columns are wide enough for `rows`.
    pub(super) fn head(&mut self, rows: &[Vec<String>]) -> io::Result<()> {
        let Some(table) = &mut self.table else { return Ok(()) };
        rows.iter().for_each(|row| table.make_room(row));
        writeln!(self.out, "{}", table.head())
    }

    /// Records that are all there: a table knows its columns before it begins.
    pub(super) fn print_all(&mut self, records: &[TopicRecord]) -> Result<(), Stop> {
        if self.table.is_none() {
            return records.iter().try_for_each(|record| self.print(record));
        }
        let mut rows = Vec::with_capacity(records.len());
        for record in records {
            let content = self.content(record)?;
            rows.push(table::cells(self.kind, record, &content));
        }
        self.head(&rows)?;
        for row in &rows {
            self.print_row(row)?;
        }
        Ok(())
    }

    pub(super) fn print(&mut self, record: &TopicRecord) -> Result<(), Stop> {
        let content = self.content(record)?;
        if self.table.is_some() {
            self.print_row(&table::cells(self.kind, record, &content))?;
        } else {
            writeln!(self.out, "{}", line::json(self.kind, record, &content))?;
        }
        Ok(())
    }

    fn print_row(&mut self, cells: &[String]) -> io::Result<()> {
        let Some(table) = &mut self.table else { return Ok(()) };
        table.make_room(cells);
        writeln!(self.out, "{}", table.line(cells))
    }

    /// Below a table, the days past due by an account's last record.
    pub(super) fn explain(&mut self, newest: &TopicRecord) -> Result<(), Stop> {
        if self.table.is_some() {
            let content = self.decode(newest)?;
            let today = clock::now().date_naive();
            writeln!(self.out, "\n{}", change::explanation(newest, &content, today))?;
        }
        Ok(())
    }

    /// What a record says, or why it cannot be decoded.
    fn content(&mut self, record: &TopicRecord) -> Result<Result<Content, String>, Stop> {
        let content = self.decode(record)?;
        self.count += 1;
        self.undecodable += u64::from(content.is_err());
        Ok(content)
    }

    fn decode(&mut self, record: &TopicRecord) -> Result<Result<Content, String>, Stop> {
        Ok(match (self.kind, &record.value) {
            _ if record.headers.is_none() => Err("the name of one of its headers is no UTF-8".to_owned()),
            (_, None) => Ok(Content::Tombstone),
            (Kind::Accounts | Kind::Changes, Some(value)) => self.decoders.avro(value).map_err(Stop::Failed)?,
            (Kind::Cursor, Some(value)) => Content::json(value),
            (Kind::DeadLetters, Some(value)) => Content::json_or_text(value),
        })
    }
}
