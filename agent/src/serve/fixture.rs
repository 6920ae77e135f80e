//! A served model, its stores and its address, for the tests.

use super::{Doors, Grpc, Limits, Loader, Metrics, Models, Outlet, ServeState, ServedModel, router};
use crate::clock::Clock;
use crate::core::{Event, VersionInfo};
use crate::store::SamplesDb;
use shoal_infer::Predictor;
use shoal_onnx::{DenseLayer, Head, MlpSpec, build_mlp};
use shoal_proto::baseline::Baseline;
use shoal_proto::fact::VersionRecord;
use shoal_proto::id::{DeviceId, Digest, Incarnation};
use shoal_proto::infer::StatusOut;
use shoal_proto::manifest::Manifest;
use shoal_proto::time::WallMs;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const MANIFEST: &str = include_str!("../../../proto/testdata/v1/model.toml");

/// `gas`: two features, two classes; the larger feature's class wins, by `gain`.
pub(super) fn gas(gain: f32) -> ServedModel {
    gas_with(gain, MANIFEST)
}

/// `gas` whose requests name the site that they are of.
pub(super) fn gas_of_sites() -> ServedModel {
    gas_with(4.0, &format!("{MANIFEST}\n[[group]]\nname = \"site\"\nvalues = [\"a\", \"7\"]\n"))
}

/// `gas` with a hidden layer, which is exposed.
pub(super) fn gas_of_two_layers() -> ServedModel {
    let layer = |weight| DenseLayer { weight, bias: vec![0.0, 0.0] };
    let spec = MlpSpec {
        width: 2,
        normaliser: None,
        layers: vec![layer(vec![2.0, 0.0, 0.0, 2.0]), layer(vec![4.0, 0.0, 0.0, 4.0])],
        head: Head::Classes,
    };
    let onnx = build_mlp(&spec).unwrap();
    let graph = shoal_onnx::OnnxModel::parse(&onnx, &shoal_onnx::Limits::default()).unwrap().graph();
    let embedding = format!("kind = \"probabilities\"\nembedding = \"{}\"", graph.penultimate().unwrap());
    served(&onnx, &MANIFEST.replace("kind = \"probabilities\"", &embedding)).unwrap()
}

/// `gas` that was trained on inputs of this kind.
pub(super) fn gas_of(reference: Baseline) -> ServedModel {
    let onnx = gas_onnx(4.0);
    of_reference(&onnx, MANIFEST, &Metrics::default(), reference).unwrap()
}

fn gas_with(gain: f32, manifest: &str) -> ServedModel {
    served(&gas_onnx(gain), manifest).unwrap()
}

fn gas_onnx(gain: f32) -> Vec<u8> {
    let spec = MlpSpec {
        width: 2,
        normaliser: None,
        layers: vec![DenseLayer { weight: vec![gain, 0.0, 0.0, gain], bias: vec![0.0, 0.0] }],
        head: Head::Classes,
    };
    build_mlp(&spec).unwrap()
}

/// `volume`: a regression, the sum of two features.
pub(super) fn volume() -> ServedModel {
    let spec = MlpSpec {
        width: 2,
        normaliser: None,
        layers: vec![DenseLayer { weight: vec![1.0, 1.0], bias: vec![0.0] }],
        head: Head::Values,
    };
    let manifest = MANIFEST
        .replace("name = \"gas\"", "name = \"volume\"")
        .replace("\"classification\"", "\"regression\"")
        .replace("tensor = \"probabilities\"", "tensor = \"values\"")
        .replace("kind = \"probabilities\"", "kind = \"values\"")
        .replace("classes = [\"ethanol\", \"acetone\"]", "");
    served(&build_mlp(&spec).unwrap(), &manifest).unwrap()
}

/// `gas` in another version, for whose work the data decides: as many terms of a sum as its number says.
pub(super) fn count(metrics: &Metrics) -> ServedModel {
    let manifest = "format = 1\n[model]\nname = \"gas\"\nversion = 9\ntask = \"regression\"\n\
                    [input]\ntensor = \"x\"\n[output]\ntensor = \"y\"\nkind = \"values\"\n";
    counted(include_bytes!("testdata/count.onnx"), manifest, metrics).unwrap()
}

pub(super) fn served(onnx: &[u8], manifest: &str) -> Result<ServedModel, super::NotServable> {
    counted(onnx, manifest, &Metrics::default())
}

pub(super) fn counted(
    onnx: &[u8],
    manifest: &str,
    metrics: &Metrics,
) -> Result<ServedModel, super::NotServable> {
    of_reference(onnx, manifest, metrics, Baseline::default())
}

fn of_reference(
    onnx: &[u8],
    manifest: &str,
    metrics: &Metrics,
    reference: Baseline,
) -> Result<ServedModel, super::NotServable> {
    let manifest = Manifest::parse(manifest).unwrap();
    let inside = manifest.output.embedding.clone();
    let baseline = Arc::new(reference);
    let info = VersionInfo {
        version: Digest::of(onnx),
        record: VersionRecord {
            model: manifest.model.name.clone(),
            name: manifest.display_name(),
            parent: None,
            baseline: baseline.digest(),
            schema: manifest.schema_digest(),
        },
        manifest: Arc::new(manifest),
        baseline: Arc::clone(&baseline),
        reference: baseline,
        size_bytes: 0,
    };
    let limits = shoal_onnx::Limits::default();
    let predictor = Predictor::load_exposing(onnx, inside.as_deref(), &limits).unwrap();
    ServedModel::new(info, predictor, &Clock::start(), metrics)
}

/// The birth of the agent under test.
pub(super) fn birth() -> StatusOut {
    let device = DeviceId::new("press-07").unwrap();
    StatusOut { device, online: true, boot: 7, incarnation: Incarnation(1), since: WallMs(5) }
}

/// All of serving, on a free port.
pub(super) struct Bench {
    pub(super) state: Arc<ServeState>,
    pub(super) samples: Arc<SamplesDb>,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) url: String,
    pub(super) grpc: String,
    pub(super) doors: Doors,
    pub(super) dir: tempfile::TempDir,
    pub(super) tracker: TaskTracker,
    pub(super) cancel: CancellationToken,
}

impl Bench {
    pub(super) async fn start(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        let (samples, late) = SamplesDb::open(dir.path(), 10 * 1024 * 1024).unwrap();
        let samples = Arc::new(samples);
        let (sender, events) = mpsc::channel(16);
        let outlet = Outlet::spawn(&tracker, &cancel, sender, late);
        let models = Arc::new(Models::default());
        models.swap(gas(4.0));
        let loaded = Arc::clone(&models);
        let loader = Loader::new(move |_| {
            loaded.load(gas(4.0));
            std::future::ready(Ok(()))
        });
        let doors = Doors::new(tracker.clone(), cancel.clone(), Arc::clone(&models), 64, 2).unwrap();
        let samples_too = Arc::clone(&samples);
        let state = ServeState::new(models, samples_too, outlet, Clock::start(), limits, loader).unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let http = doors.http(address, router(Arc::clone(&state), None)).await.unwrap();
        let grpc = doors.grpc(address, Grpc::new(Arc::clone(&state), None)).await.unwrap();
        let (url, grpc) = (format!("http://{http}"), format!("http://{grpc}"));
        Self { state, samples, events, url, grpc, doors, dir, tracker, cancel }
    }

    pub(super) async fn next_event(&mut self) -> Event {
        tokio::time::timeout(Duration::from_secs(30), self.events.recv())
            .await
            .expect("an event in time")
            .unwrap()
    }

    pub(super) async fn end(self) {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(Duration::from_secs(20), self.tracker.wait()).await.expect("all tasks end");
    }
}
