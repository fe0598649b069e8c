//! How far a replica is behind, in steps: an answer that changes with every second is news with every second.

/// The words for so many seconds behind; nothing where it is hardly worth a word.
pub(super) fn told(seconds: f64) -> &'static str {
    match seconds {
        3600.0.. => ", more than an hour behind",
        600.0.. => ", more than ten minutes behind",
        60.0.. => ", more than a minute behind",
        10.0.. => ", more than ten seconds behind",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_is_told_in_steps() {
        assert_eq!([0.0, 9.9, f64::NAN, -3.0].map(told), [""; 4]);
        assert_eq!(told(10.0), ", more than ten seconds behind");
        assert_eq!(told(61.0), ", more than a minute behind");
        assert_eq!(told(3599.0), ", more than ten minutes behind");
        assert_eq!(told(f64::INFINITY), ", more than an hour behind");
    }
}
