//! Archives over HTTP from servers of all manners, with what a crash leaves on disk.

use super::drive::Drive;
use super::*;
use shoal_proto::chunks::{CHUNK_BYTES, ChunkList};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a server does with a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Gives it.
    Ranges,
    /// Gives everything, as a server without ranges may.
    Whole,
    /// Breaks off after so many bytes.
    Breaks(usize),
    /// Gives another range than was asked for, at first.
    OtherRange,
    /// Has another byte in the third chunk.
    Lies,
}

struct Server {
    url: String,
    served: Arc<AtomicU64>,
    _stop: tokio_util::sync::DropGuard,
}

impl Server {
    async fn start(archive: &[u8], manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = Arc::new(AtomicU64::new(0));
        let (cancel, tracker) = (CancellationToken::new(), tokio_util::task::TaskTracker::new());
        let mut content = archive.to_vec();
        if manner == Manner::Lies {
            content[2 * place(CHUNK_BYTES) + 7] ^= 4;
        }
        let (stop, count) = (cancel.clone(), Arc::clone(&served));
        let list = ChunkList::of(archive).unwrap().to_bytes();
        tracker.spawn(async move {
            let mut asked = 0;
            loop {
                let taken = tokio::select! {
                    () = stop.cancelled() => return,
                    taken = listener.accept() => taken,
                };
                let Ok((stream, _)) = taken else { continue };
                asked += 1;
                answer(stream, (&content, &list), manner, asked, &count).await;
            }
        });
        Self { url, served, _stop: cancel.drop_guard() }
    }

    fn served(&self) -> u64 {
        self.served.swap(0, Ordering::Relaxed)
    }
}

/// One request of one connection.
async fn answer(
    mut stream: TcpStream,
    (content, list): (&[u8], &[u8]),
    manner: Manner,
    asked: u32,
    served: &AtomicU64,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let close = "connection: close\r\n";
    if head.starts_with("get /a/chunks ") || head.starts_with("get /artifacts/") {
        let start = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{close}\r\n", list.len());
        stream.write_all(&[start.as_bytes(), list].concat()).await.ok();
        return;
    }
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
    let (first, last) = range.and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
    let first: usize = first.parse().unwrap();
    let end = last.parse::<usize>().map_or(content.len(), |last| last + 1);
    let (status, first, end) = match manner {
        Manner::Whole => ("200 OK", 0, content.len()),
        Manner::OtherRange if asked == 2 => ("206 Partial Content", first + 1, end),
        _ => ("206 Partial Content", first, end),
    };
    let start = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-range: bytes {first}-{}/{}\r\n{close}\r\n",
        end - first,
        end - 1,
        content.len()
    );
    let end = if let Manner::Breaks(most) = manner { end.min(first + most) } else { end };
    served.fetch_add((end - first) as u64, Ordering::Relaxed);
    stream.write_all(start.as_bytes()).await.ok();
    stream.write_all(&content[first..end]).await.ok();
}

fn place(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap()
}

fn archive() -> Vec<u8> {
    let letter = |at: u32| at.wrapping_mul(2_654_435_761).to_be_bytes()[0];
    (0..700_001).map(letter).collect()
}

struct Device {
    folder: tempfile::TempDir,
    archive: Vec<u8>,
    artifact: Artifact,
}

impl Device {
    fn new() -> Self {
        let (folder, archive) = (tempfile::tempdir().unwrap(), archive());
        let list = ChunkList::of(&archive).unwrap();
        let chunks = Some(Digest::of(&list.to_bytes()));
        let artifact =
            Artifact { archive: list.archive, size_bytes: list.size_bytes, sources: Vec::new(), chunks };
        Self { folder, archive, artifact }
    }

    fn fetcher(&self, bytes_per_s: Option<u64>) -> Fetcher {
        let ways = Ways { bytes_per_s, ..Ways::default() };
        let vault = Vault::open(self.folder.path()).unwrap();
        let stopping = CancellationToken::new();
        Fetcher::new(ways, self.folder.path(), (Vec::new(), vault), None, Clock::start(), stopping).unwrap()
    }

    async fn fetch(&self, server: &Server, bytes_per_s: Option<u64>) -> Result<Vec<u8>, String> {
        let fetcher = self.fetcher(bytes_per_s);
        let artifact = Artifact { sources: vec![format!("{}/a", server.url)], ..self.artifact.clone() };
        let promised = artifact.chunks.unwrap();
        let (_parts, from_hub) = mpsc::channel(1);
        Drive::new(&fetcher.0, artifact, promised, from_hub).run().await
    }

    fn part(&self) -> PathBuf {
        part::path(&self.folder.path().join("incoming"), self.artifact.archive)
    }
}

#[tokio::test]
async fn an_archive_comes_whole_from_servers_of_all_manners() {
    for manner in [Manner::Ranges, Manner::Whole, Manner::Breaks(150_000), Manner::OtherRange] {
        let device = Device::new();
        let server = Server::start(&device.archive, manner).await;
        let whole = device.fetch(&server, None).await;
        assert!(whole.as_ref() == Ok(&device.archive), "{manner:?}: {:?}", whole.err());
        let most = device.artifact.size_bytes * 13 / 10;
        let served = server.served();
        assert!(served <= most || manner == Manner::OtherRange, "{manner:?}: {served} bytes of {most}");
    }
}

#[tokio::test]
async fn a_server_that_lies_is_refused_by_the_chunk_and_what_is_right_stays() {
    let device = Device::new();
    let server = Server::start(&device.archive, Manner::Lies).await;
    let told = device.fetch(&server, None).await.unwrap_err();
    assert!(told.contains("every source gives wrong bytes") && told.contains("chunk 2 of"), "{told}");
    server.served();
    let honest = Server::start(&device.archive, Manner::Ranges).await;
    assert_eq!(device.fetch(&honest, None).await, Ok(device.archive.clone()));
    let expected = device.artifact.size_bytes - 2 * u64::from(CHUNK_BYTES);
    assert_eq!(honest.served(), expected, "from the wrong one on");
}

#[tokio::test]
async fn what_a_crash_leaves_is_gone_on_with_and_what_it_tore_is_fetched_again() {
    let device = Device::new();
    let server = Server::start(&device.archive, Manner::Ranges).await;
    let slow = device.fetch(&server, Some(100_000));
    assert!(tokio::time::timeout(Duration::from_millis(1_500), slow).await.is_err(), "it takes six seconds");
    let before = server.served();
    assert!((98_304..=300_000).contains(&before), "a burst, and a second and a half: {before}");
    // Power was cut: one chunk did not reach the disk.
    let file = std::fs::OpenOptions::new().write(true).open(device.part()).unwrap();
    file.write_all_at(&[0; 4_096], 1_000).unwrap();
    assert_eq!(device.fetch(&server, None).await, Ok(device.archive.clone()));
    let expected = device.artifact.size_bytes - before + u64::from(CHUNK_BYTES);
    assert_eq!(server.served(), expected, "the rest and the torn one");
}

#[tokio::test]
async fn a_fetch_that_is_stopped_leaves_nothing_and_one_that_is_wanted_stays_at_the_start() {
    let device = Device::new();
    let server = Server::start(&device.archive, Manner::Ranges).await;
    let mut fetcher = device.fetcher(Some(100_000));
    let inner = Arc::get_mut(&mut fetcher.0).unwrap();
    inner.trusted = vec![ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key()];
    let artifact = Artifact { sources: vec![format!("{}/a", server.url)], ..device.artifact.clone() };
    let model = ModelName::new("gas").unwrap();
    let fetch = fetcher.fetch(model.clone(), 3, device.artifact.archive, artifact);
    let stop = async {
        while std::fs::metadata(device.part()).map_or(0, |it| it.len()) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fetcher.stop(model.clone(), 2);
        fetcher.stop(model, 3);
    };
    let (outcome, ()) = tokio::join!(fetch, stop);
    assert!(outcome.is_none(), "{outcome:?}");
    let incoming = device.folder.path().join("incoming");
    let names = || std::fs::read_dir(&incoming).unwrap().count();
    assert_eq!(names(), 0);

    let other = Digest::of(b"another");
    for archive in [other, device.artifact.archive] {
        std::fs::File::create(part::path(&incoming, archive)).unwrap();
    }
    std::fs::File::create(incoming.join(".new-x")).unwrap();
    fetcher.clean(&[device.artifact.archive].into());
    assert!(device.part().exists() && names() == 1);
}

#[test]
fn what_is_no_part_of_an_archive_is_told() {
    let device = Device::new();
    assert!(!device.fetcher(None).on_part(b"nonsense"));
    let what = shoal_proto::transfer::Given::Chunk { index: 0, bytes: vec![1] };
    let part = Part { archive: device.artifact.archive, number: 1, what };
    assert!(
        device.fetcher(None).on_part(&wire::encode(&part).unwrap()),
        "nobody waits for it, and it is no mistake"
    );
}
