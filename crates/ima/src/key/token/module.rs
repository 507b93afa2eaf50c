//! A loaded PKCS#11 module (OASIS PKCS #11 2.40): the only place that calls into it.
//!
//! A thin, safe layer: a session is closed when dropped, a result code other than `CKR_OK` is an error with the
//! specification's name, and text fields lose their padding. The functions are those of `C_GetFunctionList`,
//! which modules of all versions have.

use std::fmt;
use std::path::Path;
use std::ptr;
use std::sync::Arc;

use cryptoki_sys::*;

/// A function of the module failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    function: &'static str,
    pub(super) code: CK_RV,
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match name(self.code) {
            Some(name) => write!(f, "{}: {name}", self.function),
            None => write!(f, "{}: error 0x{:08x}", self.function, self.code),
        }
    }
}

macro_rules! names {
    ($($name:ident)+) => {
        /// The specification's name of a result code that signing may return.
        fn name(code: CK_RV) -> Option<&'static str> {
            match code {
                $($name => Some(stringify!($name)),)+
                _ => None,
            }
        }
    };
}

names! {
    CKR_CANCEL CKR_HOST_MEMORY CKR_SLOT_ID_INVALID CKR_GENERAL_ERROR CKR_FUNCTION_FAILED
    CKR_ARGUMENTS_BAD CKR_NEED_TO_CREATE_THREADS CKR_CANT_LOCK CKR_ATTRIBUTE_SENSITIVE
    CKR_ATTRIBUTE_TYPE_INVALID CKR_ATTRIBUTE_VALUE_INVALID CKR_ACTION_PROHIBITED
    CKR_DATA_INVALID CKR_DATA_LEN_RANGE CKR_DEVICE_ERROR CKR_DEVICE_MEMORY
    CKR_DEVICE_REMOVED CKR_FUNCTION_CANCELED CKR_FUNCTION_NOT_SUPPORTED
    CKR_KEY_HANDLE_INVALID CKR_KEY_SIZE_RANGE CKR_KEY_TYPE_INCONSISTENT
    CKR_KEY_FUNCTION_NOT_PERMITTED CKR_MECHANISM_INVALID CKR_MECHANISM_PARAM_INVALID
    CKR_OBJECT_HANDLE_INVALID CKR_OPERATION_ACTIVE CKR_OPERATION_NOT_INITIALIZED
    CKR_PIN_INCORRECT CKR_PIN_INVALID CKR_PIN_LEN_RANGE CKR_PIN_EXPIRED CKR_PIN_LOCKED
    CKR_SESSION_CLOSED CKR_SESSION_COUNT CKR_SESSION_HANDLE_INVALID CKR_SESSION_READ_ONLY
    CKR_TEMPLATE_INCOMPLETE CKR_TEMPLATE_INCONSISTENT CKR_TOKEN_NOT_PRESENT
    CKR_TOKEN_NOT_RECOGNIZED CKR_USER_ALREADY_LOGGED_IN CKR_USER_NOT_LOGGED_IN
    CKR_USER_PIN_NOT_INITIALIZED CKR_USER_TYPE_INVALID
    CKR_USER_ANOTHER_ALREADY_LOGGED_IN CKR_USER_TOO_MANY_TYPES CKR_RANDOM_NO_RNG
    CKR_BUFFER_TOO_SMALL CKR_CRYPTOKI_NOT_INITIALIZED CKR_CRYPTOKI_ALREADY_INITIALIZED
    CKR_FUNCTION_REJECTED
}

/// Calls a function of a module; every argument is evaluated outside `unsafe`.
macro_rules! call {
    ($module:expr, $function:ident($($argument:expr),* $(,)?)) => {{
        let refused = |code| Refusal { function: stringify!($function), code };
        match $module.functions.$function {
            Some(function) => {
                // SAFETY: the module is loaded (it is never unloaded) and the pointers that
                // callers below pass are to live values of the sizes that they state.
                let code = unsafe { function($($argument),*) };
                match code {
                    CKR_OK => Ok(()),
                    code => Err(refused(code)),
                }
            }
            None => Err(refused(CKR_FUNCTION_NOT_SUPPORTED)),
        }
    }};
}

/// Why a module cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadFailure {
    /// The library cannot be loaded; the dynamic linker's error.
    #[error("{0}")]
    Library(String),
    /// It is a library, but not a PKCS#11 module.
    #[error("a library, but not a PKCS#11 module: C_GetFunctionList not found")]
    NotAModule,
    /// The module cannot be initialized.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Whether several threads may call a module at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threading {
    /// Any number of threads.
    Free,
    /// One thread at a time: the module has no locks.
    OneAtATime,
}

/// A loaded and initialized module; it is finalized when dropped.
pub(super) struct Module {
    functions: CK_FUNCTION_LIST,
    pub(super) threading: Threading,
    /// Whether the module was initialized here, and not by other code in this process.
    initialized_here: bool,
}

impl Module {
    /// Loads and initializes a module. The dynamic linker searches a name without a slash.
    pub(super) fn load(path: &Path) -> Result<Arc<Self>, LoadFailure> {
        // SAFETY: loading runs the library's constructors; the user named it for that.
        let library = unsafe { Pkcs11::new(path) }
            .map_err(|error| LoadFailure::Library(error.to_string()))?;
        let get_function_list = match &library.C_GetFunctionList {
            Ok(function) => *function,
            Err(_) => return Err(LoadFailure::NotAModule),
        };
        let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
        // SAFETY: the function has the specification's signature, `list` is a live pointer.
        let code = unsafe { get_function_list(&mut list) };
        if code != CKR_OK {
            return Err(Refusal { function: "C_GetFunctionList", code }.into());
        }
        // SAFETY: a module that says CKR_OK gives a list that lives as long as the module.
        let Some(functions) = (unsafe { list.as_ref() }).copied() else {
            return Err(LoadFailure::NotAModule);
        };
        // Modules start threads and register exit handlers: unloading one causes crashes later.
        std::mem::forget(library);
        let mut module = Self { functions, threading: Threading::Free, initialized_here: true };
        module.initialize()?;
        Ok(Arc::new(module))
    }

    fn initialize(&mut self) -> Result<(), Refusal> {
        let mut arguments =
            CK_C_INITIALIZE_ARGS { flags: CKF_OS_LOCKING_OK, ..CK_C_INITIALIZE_ARGS::default() };
        let mut result = call!(self, C_Initialize(ptr::addr_of_mut!(arguments).cast()));
        // without its own locks, the module works for one thread at a time
        if matches!(result, Err(Refusal { code: CKR_CANT_LOCK, .. })) {
            self.threading = Threading::OneAtATime;
            result = call!(self, C_Initialize(ptr::null_mut()));
        }
        if matches!(result, Err(Refusal { code: CKR_CRYPTOKI_ALREADY_INITIALIZED, .. })) {
            self.initialized_here = false;
            result = Ok(());
        }
        self.initialized_here &= result.is_ok();
        result
    }

    pub(super) fn info(&self) -> Result<CK_INFO, Refusal> {
        let mut info = CK_INFO::default();
        call!(self, C_GetInfo(&mut info))?;
        Ok(info)
    }

    /// The slots that have a token.
    pub(super) fn slots(&self) -> Result<Vec<CK_SLOT_ID>, Refusal> {
        loop {
            let mut count = 0;
            call!(self, C_GetSlotList(CK_TRUE, ptr::null_mut(), &mut count))?;
            let mut slots = vec![0; count as usize];
            match call!(self, C_GetSlotList(CK_TRUE, slots.as_mut_ptr(), &mut count)) {
                // a token was plugged in between the two calls
                Err(Refusal { code: CKR_BUFFER_TOO_SMALL, .. }) => continue,
                result => result?,
            }
            slots.truncate(count as usize);
            return Ok(slots);
        }
    }

    pub(super) fn slot_info(&self, slot: CK_SLOT_ID) -> Result<CK_SLOT_INFO, Refusal> {
        let mut info = CK_SLOT_INFO::default();
        call!(self, C_GetSlotInfo(slot, &mut info))?;
        Ok(info)
    }

    pub(super) fn token_info(&self, slot: CK_SLOT_ID) -> Result<CK_TOKEN_INFO, Refusal> {
        let mut info = CK_TOKEN_INFO::default();
        call!(self, C_GetTokenInfo(slot, &mut info))?;
        Ok(info)
    }

    /// Opens a session for reading and signing.
    pub(super) fn open_session(self: &Arc<Self>, slot: CK_SLOT_ID) -> Result<Session, Refusal> {
        let mut handle = 0;
        let flags = CKF_SERIAL_SESSION;
        call!(self, C_OpenSession(slot, flags, ptr::null_mut(), None, &mut handle))?;
        Ok(Session { module: Arc::clone(self), handle })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if self.initialized_here {
            // the error of a device that cannot even close is ignored
            drop(call!(self, C_Finalize(ptr::null_mut())));
        }
    }
}

/// The kind of login.
#[derive(Debug, Clone, Copy)]
pub(super) enum User {
    /// For all sessions with the token.
    User,
    /// For the operation that was begun (`CKA_ALWAYS_AUTHENTICATE`).
    ContextSpecific,
}

/// An object of a token, valid in all of its sessions.
pub(super) type Handle = CK_OBJECT_HANDLE;

/// An open session, used by one thread at a time.
pub(super) struct Session {
    module: Arc<Module>,
    handle: CK_SESSION_HANDLE,
}

impl Session {
    pub(super) fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// Logs in with a PIN, or without one if the device itself asks for it.
    pub(super) fn login(&self, user: User, pin: Option<&[u8]>) -> Result<(), Refusal> {
        let user = match user {
            User::User => CKU_USER,
            User::ContextSpecific => CKU_CONTEXT_SPECIFIC,
        };
        let (pointer, length) = match pin {
            // the specification lacks a const, but no module writes to the PIN
            Some(pin) => (pin.as_ptr().cast_mut(), pin.len() as CK_ULONG),
            None => (ptr::null_mut(), 0),
        };
        call!(self.module, C_Login(self.handle, user, pointer, length))
    }

    /// The objects with all of these attributes.
    pub(super) fn find(
        &self,
        wanted: &[(CK_ATTRIBUTE_TYPE, &[u8])],
    ) -> Result<Vec<Handle>, Refusal> {
        let mut template: Vec<CK_ATTRIBUTE> = wanted
            .iter()
            .map(|&(type_, value)| CK_ATTRIBUTE {
                type_,
                pValue: value.as_ptr().cast_mut().cast(),
                ulValueLen: value.len() as CK_ULONG,
            })
            .collect();
        let count = template.len() as CK_ULONG;
        call!(self.module, C_FindObjectsInit(self.handle, template.as_mut_ptr(), count))?;
        let mut handles = Vec::new();
        let found = loop {
            let mut some = [0; 32];
            let mut count = 0;
            let room = some.len() as CK_ULONG;
            let result =
                call!(self.module, C_FindObjects(self.handle, some.as_mut_ptr(), room, &mut count));
            match (result, some.get(..count as usize)) {
                (Ok(()), Some(more @ [_, ..])) => handles.extend_from_slice(more),
                (result, _) => break result,
            }
        };
        let finished = call!(self.module, C_FindObjectsFinal(self.handle));
        found.and(finished).map(|()| handles)
    }

    /// The attribute of an object; `None` if it has none, or does not reveal it.
    pub(super) fn attribute(
        &self,
        object: Handle,
        type_: CK_ATTRIBUTE_TYPE,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let mut attribute = CK_ATTRIBUTE { type_, pValue: ptr::null_mut(), ulValueLen: 0 };
        let get = |attribute: &mut CK_ATTRIBUTE| match call!(
            self.module,
            C_GetAttributeValue(self.handle, object, attribute, 1)
        ) {
            Ok(()) => Ok(attribute.ulValueLen != CK_UNAVAILABLE_INFORMATION),
            Err(Refusal { code, .. })
                if [CKR_ATTRIBUTE_TYPE_INVALID, CKR_ATTRIBUTE_SENSITIVE].contains(&code) =>
            {
                Ok(false)
            }
            Err(refusal) => Err(refusal),
        };
        // without a buffer, the module returns the size
        if !get(&mut attribute)? {
            return Ok(None);
        }
        let mut value = vec![0; attribute.ulValueLen as usize];
        attribute.pValue = value.as_mut_ptr().cast();
        if !get(&mut attribute)? {
            return Ok(None);
        }
        value.truncate(attribute.ulValueLen as usize);
        Ok(Some(value))
    }

    /// Signs `data` in one part. `authenticate` is called after the operation was begun: this is the time of the
    /// login for a key that requires one for each signature.
    pub(super) fn sign(
        &self,
        mechanism: CK_MECHANISM_TYPE,
        key: Handle,
        data: &[u8],
        size: usize,
        authenticate: impl FnOnce(&Self) -> Result<(), Refusal>,
    ) -> Result<Vec<u8>, Refusal> {
        let mut mechanism =
            CK_MECHANISM { mechanism, pParameter: ptr::null_mut(), ulParameterLen: 0 };
        call!(self.module, C_SignInit(self.handle, &mut mechanism, key))?;
        authenticate(self)?;
        let mut signature = vec![0; size];
        let mut length = size as CK_ULONG;
        let (pointer, count) = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
        let to = signature.as_mut_ptr();
        call!(self.module, C_Sign(self.handle, pointer, count, to, &mut length))?;
        signature.truncate(length as usize);
        Ok(signature)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // a token that is not there has closed its sessions
        drop(call!(self.module, C_CloseSession(self.handle)));
    }
}

/// A text field of the specification: UTF-8, padded with blanks.
pub(super) fn text(field: &[u8]) -> String {
    let end = field.iter().rposition(|&byte| byte != b' ' && byte != 0).map_or(0, |last| last + 1);
    String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_bears_the_name_of_the_specification() {
        let refusal = Refusal { function: "C_Sign", code: CKR_DEVICE_REMOVED };
        assert_eq!(refusal.to_string(), "C_Sign: CKR_DEVICE_REMOVED");
        let vendors = Refusal { function: "C_Sign", code: CKR_VENDOR_DEFINED + 1 };
        assert_eq!(vendors.to_string(), "C_Sign: error 0x80000001");
    }

    #[test]
    fn padding_is_not_part_of_a_text() {
        assert_eq!(text(b"My token   "), "My token");
        assert_eq!(text(b"   "), "");
        assert_eq!(text(b"nul\0\0"), "nul");
    }

    #[test]
    fn what_is_no_module_is_told() {
        let load = |name: &str| Module::load(Path::new(name)).err().unwrap();
        let missing = load("/nonexistent/p11.so");
        assert!(matches!(&missing, LoadFailure::Library(words) if words.contains("nonexistent")));
        assert!(matches!(load("libc.so.6"), LoadFailure::NotAModule));
    }
}
