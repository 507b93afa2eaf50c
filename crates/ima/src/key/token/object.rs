//! Keys and certificates on a token, and their relations.
//!
//! The public half of a private key is in its own attributes (RSA, or `CKA_PUBLIC_KEY_INFO`), in the public key
//! object or in the certificate with the same `CKA_ID`. Its certificate is the one with the same `CKA_ID` and
//! public key, otherwise another one with this public key.

use cryptoki_sys::*;
use ima_format::pkcs11::{Class, Uri};
use openssl::bn::BigNum;
use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;

use super::module::Handle;
use super::{Token, TokenError};
use crate::key::certificate::Certificate;
use crate::key::{der, PublicKey};

/// A private key on a token.
#[derive(Debug)]
pub struct TokenKey {
    pub(super) handle: Handle,
    uri: Uri,
    public: Option<PublicKey>,
    certificates: Vec<Certificate>,
    pub(super) may_sign: bool,
    pub(super) always_authenticate: bool,
}

/// A certificate on a token.
#[derive(Debug)]
pub struct TokenCertificate {
    /// Its URI.
    pub uri: Uri,
    /// The certificate.
    pub certificate: Certificate,
}

impl TokenKey {
    /// The URI that names this key and no other.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The public half.
    ///
    /// # Errors
    /// [`TokenError::NoPublicKey`] if it is not on the token.
    pub fn public_key(&self) -> Result<&PublicKey, TokenError> {
        let nothing = || TokenError::NoPublicKey { key: self.uri.to_string() };
        self.public.as_ref().ok_or_else(nothing)
    }

    /// Whether each signature requires its own login (`CKA_ALWAYS_AUTHENTICATE`).
    pub fn always_authenticate(&self) -> bool {
        self.always_authenticate
    }

    /// The key's certificate on the token.
    ///
    /// # Errors
    /// [`TokenError::SeveralCertificates`] if there are several for which the kernel would use different key IDs.
    pub fn certificate(&self) -> Result<Option<&Certificate>, TokenError> {
        let first = self.certificates.first();
        let ids = || self.certificates.iter().map(Certificate::key_id);
        if ids().all(|key_id| first.map(Certificate::key_id) == Some(key_id)) {
            return Ok(first);
        }
        Err(TokenError::SeveralCertificates {
            key: self.uri.to_string(),
            ids: ids().map(|key_id| key_id.to_string()).collect(),
        })
    }

    /// Takes the public half from a certificate, if it is not on the token.
    ///
    /// # Errors
    /// [`TokenError::Mismatch`] if the token has another public half.
    pub fn certified_by(mut self, certificate: &Certificate) -> Result<Self, TokenError> {
        match &self.public {
            Some(public) if !public.is(certificate.public_key()) => {
                Err(TokenError::Mismatch { key: self.uri.to_string() })
            }
            Some(_) => Ok(self),
            None => {
                self.public = Some(certificate.public_key().clone());
                Ok(self)
            }
        }
    }
}

impl Token {
    /// The private keys that match the URI, by label and id if it has them.
    pub fn keys(&self, uri: &Uri) -> Result<Vec<TokenKey>, TokenError> {
        if let Some(class) = uri.class.filter(|&class| class != Class::Private) {
            return Err(TokenError::NotAPrivateKey { class: class.name() });
        }
        let certificates = self.certificates(&Uri::default())?;
        let handles = self.objects(CKO_PRIVATE_KEY, uri)?;
        let keys = handles.into_iter().map(|handle| self.key_object(handle, &certificates));
        let mut keys = keys.collect::<Result<Vec<_>, _>>()?;
        // the order of objects on a token is arbitrary
        keys.sort_by_cached_key(|key| key.uri.to_string());
        Ok(keys)
    }

    /// The one private key that matches the URI.
    pub fn key(&self, uri: &Uri) -> Result<TokenKey, TokenError> {
        let mut keys = self.keys(uri)?;
        let uris = |keys: &[TokenKey]| keys.iter().map(|key| key.uri.to_string()).collect();
        let token = self.info.to_string();
        match keys.len() {
            0 => {
                let present = uris(&self.keys(&Uri::default())?);
                Err(TokenError::NoKey { token, present })
            }
            1 => Ok(keys.remove(0)),
            _ => Err(TokenError::SeveralKeys { token, matching: uris(&keys) }),
        }
    }

    /// The one public key that matches the URI, from its object or its certificate. On most tokens it is visible
    /// without a login.
    pub fn public_key(&self, uri: &Uri) -> Result<PublicKey, TokenError> {
        let mut found: Vec<PublicKey> = Vec::new();
        for handle in self.objects(CKO_PUBLIC_KEY, uri)? {
            found.extend(self.public_key_of(handle, uri)?);
        }
        if found.is_empty() {
            let certificates = self.certificates(uri)?;
            found =
                certificates.iter().map(|found| found.certificate.public_key().clone()).collect();
        }
        match found.first() {
            Some(first) if found.iter().all(|key| key.is(first)) => Ok(first.clone()),
            Some(_) => {
                let token = self.info.to_string();
                Err(TokenError::SeveralPublicKeys { token, count: found.len() })
            }
            None => Err(TokenError::NoPublicKeyObject { token: self.info.to_string() }),
        }
    }

    /// The X.509 certificates that match the URI.
    pub fn certificates(&self, uri: &Uri) -> Result<Vec<TokenCertificate>, TokenError> {
        let mut certificates = Vec::new();
        for handle in self.objects(CKO_CERTIFICATE, uri)? {
            let Some(value) = self.attribute(handle, CKA_VALUE)? else { continue };
            let uri = self.object_uri(handle, Class::Certificate)?;
            // an empty value is a certificate stored elsewhere (CKA_URL), or of another kind
            let read = Certificate::parse_all(&value)
                .map_err(|source| TokenError::OpenSsl { object: uri.to_string(), source })?;
            let here = read
                .into_iter()
                .map(|certificate| TokenCertificate { uri: uri.clone(), certificate });
            certificates.extend(here);
        }
        certificates
            .sort_by_cached_key(|found| (found.uri.to_string(), found.certificate.key_id()));
        Ok(certificates)
    }

    fn objects(&self, class: CK_OBJECT_CLASS, uri: &Uri) -> Result<Vec<Handle>, TokenError> {
        let class = class.to_ne_bytes();
        let mut template: Vec<(CK_ATTRIBUTE_TYPE, &[u8])> = vec![(CKA_CLASS, &class)];
        if let Some(label) = &uri.object {
            template.push((CKA_LABEL, label.as_bytes()));
        }
        if let Some(id) = &uri.id {
            template.push((CKA_ID, id));
        }
        self.session.find(&template).map_err(|source| self.refused(source))
    }

    /// An attribute that exists and is not empty.
    fn attribute(
        &self,
        object: Handle,
        kind: CK_ATTRIBUTE_TYPE,
    ) -> Result<Option<Vec<u8>>, TokenError> {
        let value = self.session.attribute(object, kind).map_err(|source| self.refused(source))?;
        Ok(value.filter(|value| !value.is_empty()))
    }

    fn flag(&self, object: Handle, kind: CK_ATTRIBUTE_TYPE) -> Result<Option<bool>, TokenError> {
        Ok(self.attribute(object, kind)?.map(|value| value != [CK_FALSE]))
    }

    fn object_uri(&self, object: Handle, class: Class) -> Result<Uri, TokenError> {
        let label = self.attribute(object, CKA_LABEL)?;
        Ok(Uri {
            object: label.and_then(|label| String::from_utf8(label).ok()),
            id: self.attribute(object, CKA_ID)?,
            class: Some(class),
            ..self.info.uri()
        })
    }

    fn key_object(
        &self,
        handle: Handle,
        certificates: &[TokenCertificate],
    ) -> Result<TokenKey, TokenError> {
        let uri = self.object_uri(handle, Class::Private)?;
        let alike: Vec<_> = certificates
            .iter()
            .filter(|found| uri.id.is_some() && found.uri.id == uri.id)
            .collect();
        let public = match self.public_half(handle, &uri)? {
            None => alike.first().map(|found| found.certificate.public_key().clone()),
            public => public,
        };
        let is_ours = |found: &&TokenCertificate| {
            public.as_ref().is_some_and(|public| found.certificate.public_key().is(public))
        };
        let mut ours: Vec<_> = alike.into_iter().filter(is_ours).collect();
        if ours.is_empty() {
            ours = certificates.iter().filter(is_ours).collect();
        }
        Ok(TokenKey {
            handle,
            certificates: ours.into_iter().map(|found| found.certificate.clone()).collect(),
            public,
            may_sign: self.flag(handle, CKA_SIGN)?.unwrap_or(true),
            always_authenticate: self.flag(handle, CKA_ALWAYS_AUTHENTICATE)?.unwrap_or(false),
            uri,
        })
    }

    /// The public half, from the key itself or from the public key object.
    fn public_half(&self, key: Handle, uri: &Uri) -> Result<Option<PublicKey>, TokenError> {
        if let Some(public) = self.public_key_of(key, uri)? {
            return Ok(Some(public));
        }
        if let Some(information) = self.attribute(key, CKA_PUBLIC_KEY_INFO)? {
            return decoded(&information, uri).map(Some);
        }
        let by_id = Uri { id: uri.id.clone(), ..Uri::default() };
        let by_label = Uri { object: uri.object.clone(), ..Uri::default() };
        for wanted in [by_id, by_label] {
            if wanted == Uri::default() {
                continue;
            }
            // several objects with the same label are ambiguous
            if let [object] = self.objects(CKO_PUBLIC_KEY, &wanted)?[..] {
                return self.public_key_of(object, uri);
            }
        }
        Ok(None)
    }

    /// The public key in an object's own attributes.
    fn public_key_of(&self, object: Handle, uri: &Uri) -> Result<Option<PublicKey>, TokenError> {
        let kind = self.attribute(object, CKA_KEY_TYPE)?;
        let is = |wanted: CK_KEY_TYPE| kind.as_deref() == Some(&wanted.to_ne_bytes());
        if is(CKK_RSA) {
            let modulus = self.attribute(object, CKA_MODULUS)?;
            let exponent = self.attribute(object, CKA_PUBLIC_EXPONENT)?;
            let (Some(modulus), Some(exponent)) = (modulus, exponent) else { return Ok(None) };
            let build = || {
                let (n, e) = (BigNum::from_slice(&modulus)?, BigNum::from_slice(&exponent)?);
                PublicKey::of(&*PKey::from_rsa(Rsa::from_public_components(n, e)?)?)
            };
            return build().map(Some).map_err(|source| unreadable(uri, source));
        }
        if is(CKK_EC) {
            let parameters = self.attribute(object, CKA_EC_PARAMS)?;
            let point = self.attribute(object, CKA_EC_POINT)?;
            let (Some(parameters), Some(point)) = (parameters, point) else { return Ok(None) };
            return decoded(&der::ec_public_key_info(&parameters, &point), uri).map(Some);
        }
        Ok(None)
    }
}

fn decoded(information: &[u8], uri: &Uri) -> Result<PublicKey, TokenError> {
    PKey::public_key_from_der(information)
        .and_then(|key| PublicKey::of(&key))
        .map_err(|source| unreadable(uri, source))
}

fn unreadable(uri: &Uri, source: ErrorStack) -> TokenError {
    TokenError::OpenSsl { object: uri.to_string(), source }
}
