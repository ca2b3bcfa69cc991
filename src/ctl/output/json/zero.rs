//! Go's notion of a value that a message leaves out.

/// Whether Go's `omitempty` leaves a value out.
pub trait Zero {
    /// Whether it is zero, false, empty or none.
    fn is_zero(&self) -> bool;
}

/// What serde calls for [`Zero`].
pub fn is_zero<T: Zero>(value: &T) -> bool {
    value.is_zero()
}

macro_rules! zero {
    ($([$($generic:tt)*] $type:ty: |$value:ident| $zero:expr;)*) => {$(
        impl<$($generic)*> Zero for $type {
            fn is_zero(&self) -> bool {
                let $value = self;
                $zero
            }
        }
    )*};
}

zero! {
    [] bool: |value| !value;
    [] i32: |value| *value == 0;
    [] u32: |value| *value == 0;
    [] i64: |value| *value == 0;
    [] u64: |value| *value == 0;
    [] String: |value| value.is_empty();
    [] &str: |value| value.is_empty();
    [T] &[T]: |value| value.is_empty();
    [T] Vec<T>: |value| value.is_empty();
    [T] Option<T>: |value| value.is_none();
}
