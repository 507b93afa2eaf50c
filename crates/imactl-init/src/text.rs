//! The form of error numbers and counts in messages.

use core::fmt;

use rustix::io::Errno;

/// Formats an error number as its name and meaning.
#[derive(Debug)]
pub struct Reason(pub Errno);

macro_rules! reasons {
    ($($errno:ident, $name:literal, $meaning:literal;)+) => {
        fn reason(errno: Errno) -> Option<(&'static str, &'static str)> {
            match errno {
                $(Errno::$errno => Some(($name, $meaning)),)+
                _ => None,
            }
        }
    };
}

reasons! {
    PERM, "EPERM", "operation not permitted";
    NOENT, "ENOENT", "no such file or directory";
    IO, "EIO", "input/output error";
    NXIO, "ENXIO", "no such device or address";
    TOOBIG, "E2BIG", "argument list too long";
    NOEXEC, "ENOEXEC", "no format that the kernel executes";
    AGAIN, "EAGAIN", "resource temporarily unavailable";
    NOMEM, "ENOMEM", "out of memory";
    ACCESS, "EACCES", "permission denied";
    BUSY, "EBUSY", "device or resource busy";
    NODEV, "ENODEV", "no such device, or the kernel lacks the file system";
    NOTDIR, "ENOTDIR", "not a directory";
    ISDIR, "EISDIR", "is a directory";
    INVAL, "EINVAL", "invalid argument";
    FBIG, "EFBIG", "file too large";
    NOSPC, "ENOSPC", "no space left on device";
    ROFS, "EROFS", "read-only file system";
    LOOP, "ELOOP", "too many symbolic links, or a symbolic link where none is allowed";
    NAMETOOLONG, "ENAMETOOLONG", "file name too long";
    NOSYS, "ENOSYS", "not in this kernel";
    XDEV, "EXDEV", "crosses a mount point";
    NOPKG, "ENOPKG", "algorithm not in this kernel";
    BADMSG, "EBADMSG", "malformed";
    OPNOTSUPP, "EOPNOTSUPP", "operation not supported";
    DQUOT, "EDQUOT", "quota exceeded";
    NOMEDIUM, "ENOMEDIUM", "no medium found";
    NOKEY, "ENOKEY", "required key not available";
    KEYEXPIRED, "EKEYEXPIRED", "key has expired";
    KEYREVOKED, "EKEYREVOKED", "key has been revoked";
    KEYREJECTED, "EKEYREJECTED", "key was rejected";
    UCLEAN, "EUCLEAN", "file system needs cleaning";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match reason(self.0) {
            Some((name, meaning)) => write!(f, "{name}: {meaning}"),
            None => write!(f, "error number {}", self.0.raw_os_error()),
        }
    }
}

/// Formats a count with its noun: the number, the singular, the plural.
#[derive(Debug)]
pub struct Counted(pub usize, pub &'static str, pub &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, if self.0 == 1 { self.1 } else { self.2 })
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn names_what_the_kernel_said() {
        assert_eq!(Reason(Errno::NOKEY).to_string(), "ENOKEY: required key not available");
        assert_eq!(Reason(Errno::from_raw_os_error(4000)).to_string(), "error number 4000");
    }
}
