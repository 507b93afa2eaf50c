//! Enums whose variants have a spelling: in a policy, on a command line, in JSON.

/// Declares an enum with one spelling per variant: `ALL`, `name`, `from_name` and `Display`.
///
/// ```
/// ima_format::spelled! {
///     /// A hook.
///     Hook {
///         /// Files that are executed.
///         Execute = "BPRM_CHECK",
///         /// Files that are opened.
///         Open = "FILE_CHECK",
///     }
/// }
/// assert_eq!(Hook::from_name(b"FILE_CHECK"), Some(Hook::Open));
/// assert_eq!(Hook::ALL.len(), 2);
/// ```
#[macro_export]
macro_rules! spelled {
    ($(#[$attribute:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// All of them, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its spelling.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// The variant with exactly this spelling.
            pub fn from_name(name: &[u8]) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name().as_bytes() == name)
            }
        }

        impl ::core::fmt::Display for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}
