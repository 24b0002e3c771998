// SPDX-License-Identifier: 0BSD
//! Reporting (TAP): a line for each case, with the ids of the rules that it proves.

use crate::call;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

static CASES: AtomicU32 = AtomicU32::new(0);
static FAILURES: AtomicU32 = AtomicU32::new(0);

/// Text that is put together without `core::fmt`, whose code may use vector registers.
pub struct Line {
    text: [u8; 240],
    length: usize,
}

impl Line {
    pub fn new(text: &str) -> Line {
        Line { text: [0; 240], length: 0 }.text(text)
    }

    pub fn text(mut self, text: &str) -> Line {
        for byte in text.bytes() {
            if self.length < self.text.len() - 1 {
                self.text[self.length] = byte;
                self.length += 1;
            }
        }
        self
    }

    pub fn number(self, number: i64) -> Line {
        let (mut digits, mut left, mut first) = ([0u8; 20], number.unsigned_abs(), 20);
        while first == 20 || left > 0 {
            first -= 1;
            digits[first] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        let line = if number < 0 { self.text("-") } else { self };
        digits[first..].iter().fold(line, |line, digit| line.byte(*digit))
    }

    fn byte(mut self, byte: u8) -> Line {
        if self.length < self.text.len() - 1 {
            self.text[self.length] = byte;
            self.length += 1;
        }
        self
    }

    /// One console.write, so that lines do not mix.
    pub fn print(mut self) {
        self.text[self.length] = b'\n';
        call::write(&self.text[..self.length + 1]);
    }
}

/// A case lasts until it goes out of scope, or another takes its place.
pub struct Case {
    title: &'static str,
    failed: bool,
    skipped: Option<&'static str>,
}

/// `title` begins with the ids of the rules.
pub fn case(title: &'static str) -> Case {
    Case { title, failed: false, skipped: None }
}

impl Case {
    /// The case fails unless `got` is `expected`.
    pub fn is(&mut self, got: i64, expected: i64, what: &str) {
        if got != expected {
            self.failed = true;
            Line::new("# ").text(what).text(": got ").number(got).text(", expected ").number(expected).print();
        }
    }

    pub fn holds(&mut self, holds: bool, what: &str) {
        if !holds {
            self.failed = true;
            Line::new("# not so: ").text(what).print();
        }
    }

    /// What is said when a call of the declaration's table did not do as it should.
    pub fn of_call(&mut self, id: u32, got: i64, expected: i64, what: &str) {
        if got != expected {
            Line::new("# call ").number(id as i64).print();
            self.is(got, expected, what);
        }
    }

    pub fn skip(&mut self, why: &'static str) {
        self.skipped = Some(why);
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let number = CASES.fetch_add(1, SeqCst) + 1;
        if self.failed {
            FAILURES.fetch_add(1, SeqCst);
        }
        let verdict = if self.failed { "not ok " } else { "ok " };
        let line = Line::new(verdict).number(number as i64).text(" - ").text(self.title);
        match self.skipped {
            Some(why) if !self.failed => line.text(" # SKIP ").text(why).print(),
            _ => line.print(),
        }
    }
}

/// The plan, at the end; the machine's status.
pub fn finish() -> u64 {
    Line::new("1..").number(CASES.load(SeqCst) as i64).print();
    (FAILURES.load(SeqCst) != 0) as u64
}
