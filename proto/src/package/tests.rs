//! What a package is not taken for.

use super::*;
use crate::baseline::{FeatureBaseline, FeatureKind};
use crate::statement::key_id;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// The files of a small, sound package: the golden manifest has two features.
pub(crate) fn files() -> BTreeMap<String, Vec<u8>> {
    let column = |scale: f64| FeatureBaseline {
        kind: FeatureKind::Number, // what v1 did not have is absent, so that its bytes stay as they were
        magnitude: None,
        ..FeatureBaseline::of((0..100).map(|i| f64::from(i) * scale)).without_order()
    };
    let baseline = Baseline {
        rows: 100,
        features: vec![column(0.05), column(0.25)],
        predictions: None,
        ..Baseline::default()
    };
    [
        (MODEL.to_owned(), b"not parsed here".to_vec()),
        (MANIFEST.to_owned(), include_bytes!("../../testdata/v1/model.toml").to_vec()),
        (BASELINE.to_owned(), baseline.to_bytes()),
        (GUARD.to_owned(), vec![1, 2, 3]),
    ]
    .into()
}

/// A key for tests.
pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn signed() -> Package {
    let mut package = Package::new(files()).unwrap();
    package.sign(&key(1)).unwrap();
    package
}

/// How a tar entry is made wrong.
struct Entry<'a> {
    name: &'a str,
    kind: tar::EntryType,
    content: &'a [u8],
    link: &'a str,
}

const fn plain<'a>(name: &'a str, content: &'a [u8]) -> Entry<'a> {
    Entry { name, kind: tar::EntryType::Regular, content, link: "" }
}

/// A tar in zstd of the sound files and these entries, names written as they are.
fn archive(with: &[Entry<'_>]) -> Vec<u8> {
    let (files, mut builder) = (files(), tar::Builder::new(Vec::new()));
    let sound = files.iter().map(|(name, content)| plain(name, content));
    for entry in sound.chain(with.iter().map(|e| Entry { ..*e })) {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_size(entry.content.len() as u64);
        header.set_mode(0o644);
        if !entry.link.is_empty() {
            header.set_link_name(entry.link).unwrap();
        }
        header.set_cksum();
        builder.append(&header, entry.content).unwrap();
    }
    zstd::bulk::compress(&builder.into_inner().unwrap(), 3).unwrap()
}

fn error_of(bytes: &[u8]) -> PackageError {
    Package::from_archive(bytes).unwrap_err()
}

#[test]
fn archives_round_trip_and_equal_packages_have_equal_bytes() {
    let package = signed();
    let bytes = package.to_archive().unwrap();
    assert_eq!(Package::from_archive(&bytes).unwrap(), package);
    assert_eq!(signed().to_archive().unwrap(), bytes);
    assert_eq!(Package::from_archive(&archive(&[])).unwrap().version().unwrap(), package.version().unwrap());
}

#[test]
fn entries_that_no_package_has_are_refused_and_named() {
    use tar::EntryType::{Char, Directory, Fifo, Link, Regular, Symlink};
    let odd = |name, kind, link| Entry { name, kind, content: b"", link };
    for (entry, word) in [
        (plain("../model.onnx", b"x"), "../model.onnx"),
        (plain("/etc/passwd", b"x"), "/etc/passwd"),
        (plain("./model.onnx", b"x"), "./model.onnx"),
        (plain("sub/model.onnx", b"x"), "sub/model.onnx"),
        (plain("MODEL.ONNX", b"x"), "MODEL.ONNX"),
        (plain("model.onnx ", b"x"), "model.onnx "),
        (plain("", b"x"), "``"),
        (plain("run.sh", b"x"), "run.sh"),
        (plain(MODEL, b"another"), MODEL),
        (plain(MANIFEST, b""), MANIFEST),
        (odd(REPLAY, Symlink, "/etc/passwd"), REPLAY),
        (odd(REPLAY, Link, MODEL), REPLAY),
        (odd(REPLAY, Directory, ""), REPLAY),
        (odd(REPLAY, Fifo, ""), REPLAY),
        (odd(REPLAY, Char, ""), REPLAY),
        (odd("replay.npz/", Regular, ""), "replay.npz/"),
    ] {
        let error = error_of(&archive(&[entry]));
        assert!(matches!(error, PackageError::Foreign { .. }), "{word}: {error}");
        assert!(error.to_string().contains(word), "{error} does not name {word}");
    }
}

#[test]
fn a_signature_given_twice_is_refused() {
    let signature = serde_json::to_vec(signed().signature.as_ref().unwrap()).unwrap();
    assert!(Package::from_archive(&archive(&[plain(SIGNATURE, &signature)])).unwrap().signature.is_some());
    let twice = [plain(SIGNATURE, &signature), plain(SIGNATURE, &signature)];
    assert!(matches!(error_of(&archive(&twice)), PackageError::Foreign { .. }));
    assert!(matches!(error_of(&archive(&[plain(SIGNATURE, b"{}")])), PackageError::SignatureFile { .. }));
}

#[test]
fn every_truncation_of_an_archive_is_an_error_and_never_a_panic() {
    let bytes = signed().to_archive().unwrap();
    for length in 0..bytes.len() {
        assert!(Package::from_archive(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
    }
}

#[test]
fn a_tar_cut_between_or_inside_files_is_an_error() {
    let plain = zstd::bulk::decompress(&signed().to_archive().unwrap(), 1 << 20).unwrap();
    for blocks in 1..plain.len() / 512 - 2 {
        let cut = zstd::bulk::compress(&plain[..blocks * 512], 3).unwrap();
        // A cut before the optional files leaves a package without its signature, not a broken one.
        match Package::from_archive(&cut) {
            Ok(package) => assert!(matches!(package.verify(&[]), Err(PackageError::Unsigned))),
            Err(PackageError::Archive(_) | PackageError::Lacks { .. }) => {}
            Err(other) => panic!("{blocks} blocks: {other}"),
        }
    }
}

#[test]
fn a_small_archive_cannot_unpack_without_bound() {
    let mut header = tar::Header::new_ustar();
    header.set_path(MODEL).unwrap();
    header.set_size(u64::from(u32::MAX));
    header.set_cksum();
    // The file promises 4 GiB; the archive ends at once.
    let bytes = zstd::bulk::compress(header.as_bytes(), 3).unwrap();
    assert!(matches!(error_of(&bytes), PackageError::TooLarge));
}

#[test]
fn packages_without_what_every_package_has_are_refused() {
    for name in [MODEL, MANIFEST, BASELINE] {
        let mut files = files();
        files.remove(name);
        let error = Package::new(files).unwrap_err();
        assert!(matches!(error, PackageError::Lacks { name: lacks } if lacks == name), "{error}");
    }
    let mut one_feature = files();
    let mut baseline = Baseline::parse(&one_feature[BASELINE]).unwrap();
    baseline.features.pop();
    one_feature.insert(BASELINE.to_owned(), baseline.to_bytes());
    assert!(matches!(Package::new(one_feature), Err(PackageError::Inconsistent { .. })));
    for broken in [b"".as_slice(), b"{", b"[]", b"\xff\xfe"] {
        let mut files = files();
        files.insert(BASELINE.to_owned(), broken.to_vec());
        assert!(matches!(Package::new(files), Err(PackageError::Baseline(_))));
        let mut files = self::files();
        files.insert(MANIFEST.to_owned(), broken.to_vec());
        assert!(Package::new(files).is_err());
    }
}

#[test]
fn a_signature_holds_for_exactly_these_files_and_a_trusted_key() {
    let trusted = [key(1).verifying_key()];
    signed().verify(&trusted).unwrap();
    signed().verify(&[key(2).verifying_key(), key(1).verifying_key()]).unwrap();

    let wrong_key = signed().verify(&[key(2).verifying_key()]).unwrap_err();
    let signer = &key_id(&key(1).verifying_key())[..12];
    assert!(wrong_key.to_string().contains(signer), "{wrong_key}");
    assert!(signed().verify(&[]).is_err(), "nobody is trusted");

    let unsigned = Package::new(files()).unwrap();
    assert!(matches!(unsigned.verify(&trusted), Err(PackageError::Unsigned)));

    for name in [MODEL, MANIFEST, BASELINE, GUARD] {
        let mut files = signed().to_files();
        files.get_mut(name).unwrap().push(b'\n');
        let error = Package::from_files(files).unwrap().verify(&trusted).unwrap_err();
        assert!(matches!(error, PackageError::Signature(SignatureError::OtherStatement)), "{name}: {error}");
    }
    for act in [
        |files: &mut BTreeMap<String, Vec<u8>>| drop(files.remove(GUARD)),
        |files: &mut BTreeMap<String, Vec<u8>>| drop(files.insert(REPLAY.to_owned(), vec![])),
    ] {
        let mut files = signed().to_files();
        act(&mut files);
        assert!(Package::from_files(files).unwrap().verify(&trusted).is_err(), "a file more or less");
    }
}

#[test]
fn a_signature_of_another_package_or_a_forged_one_does_not_hold() {
    let trusted = [key(1).verifying_key()];
    let mut other = files();
    other.insert(MODEL.to_owned(), b"another model".to_vec());
    let mut other = Package::new(other).unwrap();
    other.sign(&key(1)).unwrap();

    let mut swapped = signed();
    swapped.signature = other.signature.clone();
    assert!(swapped.verify(&trusted).is_err(), "the other's whole envelope");

    let mut grafted = signed();
    let signatures = &other.signature.as_ref().unwrap().signatures;
    grafted.signature.as_mut().unwrap().signatures.clone_from(signatures);
    assert!(grafted.verify(&trusted).is_err(), "our payload under the other's signature");

    let mut claimed = signed();
    claimed.sign(&key(9)).unwrap();
    claimed.signature.as_mut().unwrap().signatures[0].keyid = key_id(&trusted[0]);
    assert!(claimed.verify(&trusted).is_err(), "a key id is a hint and no proof");

    let mut typed = signed();
    typed.signature.as_mut().unwrap().payload_type = "text/plain".into();
    assert!(typed.verify(&trusted).is_err(), "another payload type");

    for garbage in ["", "!", &BASE64.encode([0; 63]), &BASE64.encode([0; 64]), &BASE64.encode([0xff; 64])] {
        let mut forged = signed();
        garbage.clone_into(&mut forged.signature.as_mut().unwrap().signatures[0].sig);
        assert!(forged.verify(&trusted).is_err(), "{garbage}");
    }
    let mut none = signed();
    none.signature.as_mut().unwrap().signatures.clear();
    assert!(none.verify(&trusted).is_err());
}

#[test]
fn the_version_is_over_the_files_and_not_the_signature() {
    let mut again = Package::new(files()).unwrap();
    let before = again.version().unwrap();
    again.sign(&key(7)).unwrap();
    assert_eq!(again.version().unwrap(), before);
    let (version, record) = again.record().unwrap();
    assert_eq!((version, record.name.as_str()), (before, "gas@3+press-07.2"));
}
