//! Sizes as util-linux reads and writes them: `50G` is 50 GiB, `50GB` is 50 * 10^9 bytes.

use std::fmt;
use std::str::FromStr;

use parse_size::Config;
use serde::{Deserialize, Serialize};

/// One mebibyte: volumes are a whole number of them.
pub const MIB: u64 = 1 << 20;

/// The largest image: the loop driver and XFS count in signed 64-bit bytes (8 EiB).
pub const MAX: u64 = 1 << 62;

/// A number of bytes that a user typed, or that is shown to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Size(pub u64);

impl Size {
    /// The next multiple of 1 MiB.
    #[must_use]
    pub fn rounded_up(self) -> Self {
        Self(self.0.next_multiple_of(MIB))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // parse-size also takes spaces and underscores between digits, and exponents: typing errors.
        let unit = text.trim_start_matches(|digit: char| digit.is_ascii_digit() || digit == '.');
        if !unit.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(EXPECTED.into());
        }
        // It rounds what does not fit into 64 bits, and overflows where that makes it one more.
        if text.bytes().filter(u8::is_ascii_digit).count() > MOST_DIGITS {
            return Err(format!("a size has at most {MOST_DIGITS} digits"));
        }
        let is_decimal = text.ends_with(['b', 'B']);
        let config = if is_decimal {
            Config::new().with_decimal()
        } else {
            Config::new().with_binary()
        };
        let bytes = config.parse_size(text).map_err(|_| EXPECTED)?;
        if bytes == 0 {
            return Err("a size of 0 holds nothing".into());
        }
        // Nobody counts bytes by hand: the unit was forgotten.
        if unit.is_empty() && bytes < MIB {
            return Err(format!("{text} is {bytes} bytes: {text}M or {text}G?"));
        }
        if bytes > MAX {
            return Err("that is larger than an image can be (4 EiB)".into());
        }
        Ok(Self(bytes))
    }
}

/// So many always fit into 64 bits.
const MOST_DIGITS: usize = 19;

const EXPECTED: &str =
    "expected a number with a unit: 50G and 50GiB are 50 * 1024^3 bytes, 50GB is 50 * 1000^3";

impl fmt::Display for Size {
    /// One decimal at most, none when it is 0: `50G`, `1.5K`, `48.8G`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];
        let mut unit = None;
        let mut divisor = 1_u64;
        for candidate in UNITS {
            if self.0 / divisor < 1024 {
                break;
            }
            divisor <<= 10;
            unit = Some(candidate);
        }
        let Some(mut unit) = unit else {
            return f.pad(&format!("{}B", self.0));
        };
        // In tenths, rounded; u128 because 4 EiB times 10 does not fit into 64 bits.
        let mut tenths = (u128::from(self.0) * 10 + u128::from(divisor / 2)) / u128::from(divisor);
        if tenths >= 10240 {
            // 1023.96K rounds to 1024K, which is 1M.
            if let Some(next) = UNITS
                .iter()
                .position(|u| *u == unit)
                .and_then(|i| UNITS.get(i + 1))
            {
                unit = *next;
                tenths = 10;
            }
        }
        let text = match tenths % 10 {
            0 => format!("{}{unit}", tenths / 10),
            tenth => format!("{}.{tenth}{unit}", tenths / 10),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_util_linux_reads_them() {
        for (text, bytes) in [
            ("50G", 50 << 30),
            ("50GiB", 50 << 30),
            ("50GB", 50_000_000_000),
            ("50g", 50 << 30),
            ("1.5T", 1_649_267_441_664),
            ("1048576", MIB),
            ("512B", 512),
            ("300M", 300 << 20),
            ("1K", 1024),
            ("4611686018427387904", MAX),
            ("1.844674407370955161G", 1_980_704_063),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in [
            "",
            "20",
            "1048575",
            "0",
            "-1",
            "+5G",
            "1.5X",
            "99E",
            "G",
            "1 G",
            "1_000",
            "0x10",
            "1e3",
            "1e3",
            "1e3Z",
            "5GG",
            "nan",
            "18446744073709551615.5",
            "1.84467440737095516155G",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_as_util_linux_shows_them() {
        for (bytes, text) in [
            (0, "0B"),
            (512, "512B"),
            (1536, "1.5K"),
            (50 << 30, "50G"),
            (50_000_000_000, "46.6G"),
            (1_048_575, "1M"),
            (300 << 20, "300M"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
