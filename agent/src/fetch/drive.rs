//! Carries out what [`crate::core::download`] asks for, and tells it what comes.

use super::http::{Came, Question, What};
use super::part::{self, PartFile};
use super::{By, Inner, MQTT_BYTES_PER_S};
use crate::core::download::{Ask, Download, Kind, Source, Taken};
use crate::mqtt::Message;
use shoal_proto::fact::Artifact;
use shoal_proto::id::Digest;
use shoal_proto::topic::{Topic, Up};
use shoal_proto::transfer::{Given, Need, Needed, Part};
use shoal_proto::wire;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::mpsc;

/// The name of the hub's own broker among sources.
const MQTT: &str = "mqtt:";
/// Chunks that may wait to be written.
const CAME: usize = 4;
/// Longest sleep; the core names a moment long before.
const IDLE: Duration = Duration::from_secs(60);

type Request = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One archive on its way.
pub(super) struct Drive<'a> {
    inner: &'a Inner,
    artifact: Artifact,
    promised: Digest,
    /// Addresses of the sources; `None` is the hub over MQTT.
    urls: Vec<Option<String>>,
    /// Why HTTP is no source, where it is none.
    closed: Option<String>,
    download: Download,
    from_hub: mpsc::Receiver<Part>,
    asked: usize,
    /// The question over HTTP that is under way; a later one takes its place.
    request: Option<Request>,
    came: (mpsc::Sender<Came>, mpsc::Receiver<Came>),
}

impl<'a> Drive<'a> {
    pub(super) fn new(
        inner: &'a Inner,
        artifact: Artifact,
        promised: Digest,
        from_hub: mpsc::Receiver<Part>,
    ) -> Self {
        let (mut urls, mut closed): (Vec<_>, _) = match inner.urls(&artifact) {
            Ok(urls) => (urls.into_iter().map(Some).collect(), None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        if inner.hub.is_some() && inner.ways.by != By::Http {
            urls.push(None);
            closed = None;
        }
        let (now, rate) = (inner.clock.mono(), inner.ways.bytes_per_s);
        let source = |url: &Option<String>| match url {
            Some(url) => Source::new(url.clone(), Kind::Http, rate, now),
            None => Source::new(MQTT.into(), Kind::Mqtt, rate.or(Some(MQTT_BYTES_PER_S)), now),
        };
        let download = Download::new(artifact.clone(), promised, urls.iter().map(source).collect());
        let (request, came) = (None, mpsc::channel(CAME));
        Self { inner, artifact, promised, urls, closed, download, from_hub, asked: 0, request, came }
    }

    /// The whole archive, or why there is none.
    pub(super) async fn run(mut self) -> Result<Vec<u8>, String> {
        if let Some(reason) = self.closed.take() {
            return Err(reason);
        }
        let (folder, archive) = (&self.inner.folder, self.artifact.archive);
        let path = || part::path(folder, archive).display().to_string();
        let mut file = PartFile::open(folder, archive, self.artifact.size_bytes)
            .map_err(|cause| format!("failed to write `{}`: {cause}", path()))?;
        if let Some(list) = file.list()
            && self.download.hold_list(&list)
        {
            self.hold(&file).await;
        }
        let mut turn = None;
        let outcome = loop {
            if turn.is_none() {
                turn = self.inner.turn.acquire().await.ok();
            }
            let now = self.inner.clock.mono();
            for ask in self.download.poll(now, rand::random()) {
                self.ask(ask);
            }
            if let Some(outcome) = self.download.outcome() {
                break outcome.clone();
            }
            if self.download.rests(now) {
                (turn, self.request) = (None, None);
            }
            let due = self.download.next_deadline(now);
            let wait = due.map_or(IDLE, |at| self.inner.clock.until(at)).min(IDLE);
            tokio::select! {
                biased;
                Some(part) = self.from_hub.recv() => self.on_part(part, &mut file).await,
                Some(came) = self.came.1.recv() => self.on_came(came, &mut file).await,
                () = under_way(&mut self.request) => self.request = None,
                () = tokio::time::sleep(wait) => {}
            }
        };
        let seen = self.download.seen();
        outcome.map_err(|cause| cause.to_string())?;
        tracing::info!(
            archive = %archive.short(), held = seen.held, http = seen.http, mqtt = seen.mqtt, asked = seen.asked,
            again = seen.again, known = seen.known, wrong = seen.wrong, "archive is whole"
        );
        let bytes = file.read().await.map_err(|cause| format!("failed to read `{}`: {cause}", path()))?;
        let found = Digest::of(&bytes);
        if found != archive {
            return Err(format!("the chunks make {found}, promised was {archive}"));
        }
        Ok(bytes)
    }

    /// Takes what is in the file.
    async fn hold(&mut self, file: &PartFile) {
        let Some(list) = self.download.list() else { return };
        for passed in list.passed_over() {
            tracing::debug!(reason = %passed, "another way to the archive is passed over");
        }
        match file.held(list).await {
            Ok(held) => held.into_iter().for_each(|index| self.download.hold(index)),
            Err(cause) => tracing::warn!(error = %cause, "what was fetched before cannot be read"),
        }
    }

    fn ask(&mut self, ask: Ask) {
        let (Ask::List { source, number, .. } | Ask::Chunks { source, number, .. }) = ask;
        let name = |at: usize| self.urls.get(at).cloned().flatten().unwrap_or_else(|| MQTT.into());
        if source != self.asked {
            let reason = self.download.trouble(self.asked).unwrap_or("it is not needed").to_owned();
            let (from, to) = (name(self.asked), name(source));
            tracing::info!(archive = %self.artifact.archive.short(), from, to, reason, "another source is asked");
            self.asked = source;
        }
        match self.urls.get(source).cloned().flatten() {
            Some(url) => self.request = Some(self.over_http(url, &ask)),
            None => {
                self.request = None;
                if let Err(reason) = self.over_mqtt(&ask) {
                    self.download.on_ended(source, number, Err(reason));
                }
            }
        }
    }

    fn over_http(&self, url: String, ask: &Ask) -> Request {
        let (client, out) = (self.inner.client.clone(), self.came.0.clone());
        match *ask {
            Ask::List { source, number, .. } => {
                // The hub has the list, wherever the archive itself is.
                let url = match &self.inner.ways.base {
                    Some(base) => format!("{base}/artifacts/{}/chunks", self.artifact.archive),
                    None => format!("{url}/chunks"),
                };
                Box::pin(Question { client, url, of: (source, number) }.list(out))
            }
            Ask::Chunks { source, number, first, bits } => {
                let list = self.download.list().cloned();
                let question = Question { client, url, of: (source, number) };
                Box::pin(async move {
                    if let Some(list) = list {
                        question.chunks(list, first, bits.count_ones(), out).await;
                    }
                })
            }
        }
    }

    fn over_mqtt(&self, ask: &Ask) -> Result<(), String> {
        let Some((hub, device)) = &self.inner.hub else { return Err("there is no hub".into()) };
        let (number, what) = match *ask {
            Ask::List { number, from, .. } => (number, Needed::List { from }),
            Ask::Chunks { number, first, bits, .. } => {
                (number, Needed::Chunks { list: self.promised, first, bits })
            }
        };
        let need = Need { archive: self.artifact.archive, number, what };
        let payload = wire::encode(&need).map_err(|cause| cause.to_string())?;
        let topic = Topic::Up(device.clone(), Up::Need).to_string();
        hub.publish(Message { topic, payload, retain: false }).map_err(|cause| cause.to_string())
    }

    async fn on_part(&mut self, part: Part, file: &mut PartFile) {
        let Some(source) = self.urls.iter().position(Option::is_none) else { return };
        match part.what {
            Given::List { from, total, bytes } => {
                if let Some(list) = self.download.on_list(source, part.number, from, total, &bytes) {
                    self.on_list(&list, file).await;
                }
            }
            Given::Chunk { index, bytes } => {
                self.on_chunk((source, part.number), index, bytes, file).await;
            }
            Given::Refused(refusal) => self.download.on_refused(source, part.number, &refusal),
        }
    }

    async fn on_came(&mut self, Came { of: (source, number), what }: Came, file: &mut PartFile) {
        match what {
            What::List(bytes) => {
                let total = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                if let Some(list) = self.download.on_list(source, number, 0, total, &bytes) {
                    self.on_list(&list, file).await;
                }
            }
            What::Chunk { index, bytes } => self.on_chunk((source, number), index, bytes, file).await,
            What::Ended(outcome) => self.download.on_ended(source, number, outcome),
        }
    }

    async fn on_list(&mut self, list: &[u8], file: &PartFile) {
        file.keep_list(list);
        self.hold(file).await;
    }

    async fn on_chunk(
        &mut self,
        (source, number): (usize, u64),
        index: u32,
        bytes: Vec<u8>,
        file: &mut PartFile,
    ) {
        let now = self.inner.clock.mono();
        match self.download.on_chunk(now, source, number, index, &bytes) {
            Taken::Write { at } => {
                if let Err(cause) = file.write(at, bytes).await {
                    self.download.lose(now, index, format!("failed to write it down: {cause}"));
                }
            }
            Taken::Wrong => {
                let reason = self.download.trouble(source).unwrap_or_default();
                tracing::warn!(reason, "a source gives wrong bytes");
            }
            Taken::Known | Taken::Unasked => {}
        }
    }
}

async fn under_way(request: &mut Option<Request>) {
    match request {
        Some(request) => request.await,
        None => std::future::pending().await,
    }
}
