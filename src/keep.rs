//! How many snapshots a volume keeps: `24h7d4w12m2y`, as `x-lovol.keep=` and the property have it.

use std::fmt;
use std::str::FromStr;

/// So many of the newest for each of these spans; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// `h`
    pub hourly: u32,
    /// `d`
    pub daily: u32,
    /// `w`
    pub weekly: u32,
    /// `m`
    pub monthly: u32,
    /// `y`
    pub yearly: u32,
}

impl Keep {
    fn of_unit(&mut self, unit: char) -> Option<&mut u32> {
        Some(match unit {
            'h' => &mut self.hourly,
            'd' => &mut self.daily,
            'w' => &mut self.weekly,
            'm' => &mut self.monthly,
            'y' => &mut self.yearly,
            _ => return None,
        })
    }
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || format!("'{text}' is not like 24h7d4w12m2y");
        let mut keep = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .ok_or_else(malformed)?;
            let (number, tail) = rest.split_at(digits);
            let number: u32 = number.parse().map_err(|_| malformed())?;
            let mut tail = tail.chars();
            let unit = tail.next().and_then(|unit| keep.of_unit(unit));
            let unit = unit.ok_or_else(malformed)?;
            if number == 0 || *unit != 0 {
                return Err(malformed());
            }
            *unit = number;
            rest = tail.as_str();
        }
        if keep == Self::default() {
            return Err(malformed());
        }
        Ok(keep)
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spans = [
            (self.hourly, 'h'),
            (self.daily, 'd'),
            (self.weekly, 'w'),
            (self.monthly, 'm'),
            (self.yearly, 'y'),
        ];
        for (number, unit) in spans.iter().filter(|(number, _)| *number > 0) {
            write!(f, "{number}{unit}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parsed_is_shown_as_it_was() {
        for text in ["24h7d4w12m2y", "1d", "48h"] {
            assert_eq!(
                text.parse::<Keep>().map(|keep| keep.to_string()),
                Ok(text.to_owned())
            );
        }
        assert_eq!(
            "7d24h".parse::<Keep>().map(|keep| keep.to_string()),
            Ok("24h7d".to_owned())
        );
        for text in [
            "",
            "7",
            "d",
            "7x",
            "0d",
            "1d2d",
            "-1d",
            "99999999999d",
            "1d ",
        ] {
            assert!(text.parse::<Keep>().is_err(), "{text}");
        }
    }
}
