//! Numbers as people write them: a whole mantissa and a power of ten. Scaled values are computed in these, so
//! that a raw 3 at a scale of 0.1 is 0.3 and not 0.30000000000000004.

use std::fmt::{self, Write};

/// `mantissa` × 10^`exponent`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal {
    mantissa: i128,
    exponent: i32,
}

/// Every whole number up to here is a float exactly.
const EXACT_FLOATS: u128 = 1 << 53;
/// The powers of ten that are floats exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];
/// The largest power of ten that a mantissa can hold.
const MOST_POWER: u32 = 38;

impl From<i128> for Decimal {
    fn from(int: i128) -> Decimal {
        Decimal { mantissa: int, exponent: 0 }
    }
}

impl Decimal {
    pub(super) fn new(mantissa: i64, exponent: i16) -> Decimal {
        Decimal { mantissa: mantissa.into(), exponent: exponent.into() }
    }

    /// The shortest decimal that is nearer to `float` than to any other; `None` for infinities and NaN.
    pub(super) fn shortest(float: f64) -> Option<Decimal> {
        float.is_finite().then(|| Decimal::printed(format_args!("{float:e}")))
    }

    /// As [`Decimal::shortest`], among the numbers of 32 bits.
    pub(super) fn shortest_single(float: f32) -> Option<Decimal> {
        float.is_finite().then(|| Decimal::printed(format_args!("{float:e}")))
    }

    /// Of a finite float in scientific notation, `-1.25e-7`: the shortest that reads back as the same float,
    /// so at most 17 digits.
    fn printed(float: fmt::Arguments<'_>) -> Decimal {
        let text = Text::of(float);
        let (digits, exponent) = text.as_str().split_once('e').expect("scientific notation has an exponent");
        let mut exponent: i32 = exponent.parse().expect("the exponent is a number");
        let (mut mantissa, mut is_fraction) = (0, false);
        for byte in digits.bytes() {
            match byte {
                b'0'..=b'9' => {
                    mantissa = 10 * mantissa + i128::from(byte - b'0');
                    exponent -= i32::from(is_fraction);
                }
                b'.' => is_fraction = true,
                _ => {}
            }
        }
        Decimal { mantissa: if digits.starts_with('-') { -mantissa } else { mantissa }, exponent }
    }

    /// Mantissa and exponent, where they are small enough; those of the shortest decimal of a float are.
    pub(super) fn parts(self) -> Option<(i64, i16)> {
        Some((self.mantissa.try_into().ok()?, self.exponent.try_into().ok()?))
    }

    /// Whether it cannot have a fraction.
    pub(super) fn is_whole(self) -> bool {
        self.exponent >= 0 || self.mantissa == 0
    }

    /// Its whole part, if that fits.
    pub(super) fn to_int(self) -> Option<i128> {
        match u32::try_from(self.exponent) {
            Ok(up) => self.mantissa.checked_mul(power(up)?),
            Err(_) => Some(power(self.exponent.unsigned_abs()).map_or(0, |power| self.mantissa / power)),
        }
    }

    /// `None` where the mantissa does not fit; so for all that follow.
    pub(super) fn times(self, other: Decimal) -> Option<Decimal> {
        let mantissa = self.mantissa.checked_mul(other.mantissa)?;
        Some(Decimal { mantissa, exponent: self.exponent + other.exponent })
    }

    pub(super) fn plus(self, other: Decimal) -> Option<Decimal> {
        if self.mantissa == 0 || other.mantissa == 0 {
            return Some(if self.mantissa == 0 { other } else { self });
        }
        let exponent = self.exponent.min(other.exponent);
        let mantissa = self.at_exponent(exponent)?.checked_add(other.at_exponent(exponent)?)?;
        Some(Decimal { mantissa, exponent })
    }

    pub(super) fn minus(self, other: Decimal) -> Option<Decimal> {
        self.plus(Decimal { mantissa: other.mantissa.checked_neg()?, ..other })
    }

    /// The quotient as a fraction of two whole numbers. The divisor must not be 0.
    fn over(self, divisor: Decimal) -> Option<(i128, i128)> {
        let exponent = self.exponent.min(divisor.exponent);
        Some((self.at_exponent(exponent)?, divisor.at_exponent(exponent)?))
    }

    /// The quotient, rounded to the nearest whole number, half away from zero. The divisor must not be 0.
    pub(super) fn divided_to_int(self, divisor: Decimal) -> Option<i128> {
        let (over, under) = self.over(divisor)?;
        let (quotient, rest) = (over.checked_div(under)?, over.checked_rem(under)?);
        let is_up = rest.unsigned_abs() >= under.unsigned_abs() - rest.unsigned_abs();
        let away = if (over < 0) == (under < 0) { 1 } else { -1 };
        Some(if is_up { quotient + away } else { quotient })
    }

    /// The float nearest to the quotient. The divisor must not be 0.
    pub(super) fn divided(self, divisor: Decimal) -> Option<f64> {
        let (over, under) = self.over(divisor)?;
        // Two exact floats divide to the nearest one; larger numbers would be rounded twice.
        let is_exact = over.unsigned_abs().max(under.unsigned_abs()) <= EXACT_FLOATS;
        is_exact.then(|| over as f64 / under as f64)
    }

    /// The nearest float.
    pub(super) fn to_f64(self) -> f64 {
        let power = EXACT_POWERS.get(self.exponent.unsigned_abs() as usize);
        if let Some(power) = power.filter(|_| self.mantissa.unsigned_abs() <= EXACT_FLOATS) {
            // One operation on two exact floats rounds once, and so to the nearest.
            let mantissa = self.mantissa as f64;
            return if self.exponent < 0 { mantissa / power } else { mantissa * power };
        }
        let text = Text::of(format_args!("{}e{}", self.mantissa, self.exponent));
        text.as_str().parse().expect("a mantissa and an exponent are a float")
    }

    /// The mantissa that it has at a smaller exponent.
    fn at_exponent(self, exponent: i32) -> Option<i128> {
        if self.mantissa == 0 {
            return Some(0);
        }
        self.mantissa.checked_mul(power(self.exponent.abs_diff(exponent))?)
    }
}

fn power(exponent: u32) -> Option<i128> {
    (exponent <= MOST_POWER).then(|| 10_i128.pow(exponent))
}

/// A number in letters, on the stack.
struct Text {
    bytes: [u8; TEXT_BYTES],
    len: usize,
}

/// A sign, 39 digits, `e`, a sign, 10 digits; with room to spare.
const TEXT_BYTES: usize = 64;

impl Text {
    fn of(number: fmt::Arguments<'_>) -> Text {
        let mut text = Text { bytes: [0; TEXT_BYTES], len: 0 };
        text.write_fmt(number).expect("a number has fewer letters");
        text
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).expect("only text was written")
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let place = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::shortest(text.parse().unwrap()).unwrap()
    }

    #[test]
    fn arithmetic_is_that_of_paper() {
        #[track_caller]
        fn check(a: &str, b: &str, product: f64, sum: f64, difference: f64, rounded: i128) {
            let (a, b) = (decimal(a), decimal(b));
            assert_eq!(a.times(b).unwrap().to_f64(), product);
            assert_eq!(a.plus(b).unwrap().to_f64(), sum);
            assert_eq!(a.minus(b).unwrap().to_f64(), difference);
            assert_eq!(a.divided_to_int(b), Some(rounded));
        }
        check("3", "0.1", 0.3, 3.1, 2.9, 30);
        check("0.1", "0.2", 0.02, 0.3, -0.1, 1);
        check("-0.1", "0.2", -0.02, 0.1, -0.3, -1);
        check("0", "7", 0.0, 7.0, -7.0, 0);
        check("2.5", "-1", -2.5, 1.5, 3.5, -3);
        check("1e20", "1e-10", 1e10, 100000000000000000000.0, 1e20, 10_i128.pow(30));
        check("1234567.891", "0.001", 1234.567891, 1234567.892, 1234567.89, 1234567891);
        assert_eq!(decimal("0.3").divided(decimal("0.1")), Some(3.0));
        assert_eq!(decimal("0.03").divided(decimal("0.1")), Some(0.3));
        assert_eq!(decimal("1e300").divided_to_int(decimal("1")), None);
        assert!(decimal("1e300").plus(decimal("1")).is_none());
    }

    #[test]
    fn whole_parts() {
        #[track_caller]
        fn check(text: &str, int: Option<i128>, is_whole: bool) {
            assert_eq!((decimal(text).to_int(), decimal(text).is_whole()), (int, is_whole), "{text}");
        }
        check("0", Some(0), true);
        check("100", Some(100), true);
        check("-7", Some(-7), true);
        check("0.5", Some(0), false);
        check("-12.75", Some(-12), false);
        check("1e-300", Some(0), false);
        check("1e38", Some(10_i128.pow(38)), true);
        check("1e39", None, true);
    }

    proptest! {
        #[test]
        fn the_shortest_decimal_is_the_float(bits: u64, small: u32, int: i32) {
            for float in [f64::from_bits(bits), f64::from(f32::from_bits(small)), f64::from(int) / 100.0] {
                if let Some(decimal) = Decimal::shortest(float) {
                    prop_assert_eq!(decimal.to_f64(), float);
                    prop_assert!(decimal.parts().is_some());
                }
            }
            let single = f32::from_bits(small);
            if let Some(decimal) = Decimal::shortest_single(single) {
                let double = decimal.to_f64();
                prop_assert_eq!(double as f32, single);
                prop_assert_eq!(double.to_string().parse::<f32>().unwrap(), single);
                prop_assert_eq!(double.abs().to_string(), single.abs().to_string());
            }
        }

        #[test]
        fn nothing_panics(a: u64, b: u64, int: i128) {
            let numbers = [a, b].map(|bits| Decimal::shortest(f64::from_bits(bits)));
            let [Some(a), Some(b)] = numbers else { return Ok(()) };
            let int = Decimal::from(int);
            for (x, y) in [(a, b), (b, a), (int, a), (int, int)] {
                let _ = (x.times(y).map(Decimal::to_f64), x.plus(y).map(Decimal::to_f64), x.minus(y));
                let _ = (x.to_int(), x.is_whole(), x.to_f64());
                if y.mantissa != 0 {
                    let _ = (x.divided(y), x.divided_to_int(y));
                }
            }
        }

        #[test]
        fn rounding_is_half_away_from_zero(over in -10_000..10_000_i128, under in 1..100_i128) {
            let exact = over as f64 / under as f64;
            for sign in [1, -1] {
                let got = Decimal::from(over * sign).divided_to_int(Decimal::from(under * sign));
                prop_assert_eq!(got, Some(exact.round() as i128));
            }
        }
    }
}
