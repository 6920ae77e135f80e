//! The ways in that are not HTTP: gRPC and MQTT, each with the client that an application would have.

use super::load::time;
use anyhow::{Context as _, bail};
use rumqttc::{AsyncClient, Event, MqttOptions, NetworkOptions, Packet, QoS};
use shoal_infer::{Tensor, TensorData};
use shoal_proto::grpc::{InferTensor, ModelInferRequest, ModelInferResponse, SERVICE};
use shoal_proto::id::AppName;
use shoal_proto::infer::{FeaturesIn, Parameters, RowIn};
use shoal_proto::topic::{Local, Topic};
use shoal_tests::rig::{Child, MODEL, Times};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

/// Where mosquitto is, when it is installed.
const PROGRAMS: [&str; 2] = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
/// How long it may take to listen.
const LISTENS: Duration = Duration::from_secs(10);
/// The agent's level in the topics.
pub(crate) const APP: &str = "bench";
/// Between two signs of life.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Requests that may wait in the client.
const QUEUE: usize = 16;

/// A port that was free a moment ago.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Times calls with raw contents.
pub(crate) fn grpc(address: SocketAddr, row: &[Tensor], count: usize) -> anyhow::Result<Times> {
    let runtime = runtime()?;
    let mut inputs = Vec::new();
    let mut raw = Vec::new();
    for tensor in row {
        let TensorData::F32(values) = &tensor.data else { bail!("only models of FP32 are measured") };
        raw.push(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into());
        inputs.push(InferTensor {
            name: tensor.name.clone(),
            datatype: "FP32".into(),
            shape: tensor.shape.iter().map(|size| i64::try_from(*size)).collect::<Result<_, _>>()?,
            ..InferTensor::default()
        });
    }
    let asked = ModelInferRequest {
        model_name: MODEL.into(),
        inputs,
        raw_input_contents: raw,
        ..ModelInferRequest::default()
    };
    let channel = Channel::from_shared(format!("http://{address}"))?;
    let mut client = Grpc::new(runtime.block_on(channel.connect())?);
    let path = PathAndQuery::try_from(format!("/{SERVICE}/ModelInfer"))?;
    time(count, || {
        runtime.block_on(async {
            client.ready().await?;
            let codec = ProstCodec::<ModelInferRequest, ModelInferResponse>::default();
            let answer = client.unary(tonic::Request::new(asked.clone()), path.clone(), codec).await?;
            let outputs = answer.into_inner().raw_output_contents;
            if outputs.is_empty() { bail!("an answer without outputs") } else { Ok(()) }
        })
    })
}

/// A broker of our own.
#[derive(Debug)]
pub(crate) struct Broker {
    _child: Child,
    pub(crate) port: u16,
}

impl Broker {
    /// `None` where mosquitto is not installed.
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Option<Self>> {
        let Some(program) = PROGRAMS.iter().find(|path| Path::new(path).exists()) else { return Ok(None) };
        let (port, config) = (free_port()?, folder.join("mosquitto.conf"));
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n"
        );
        std::io::Write::write_all(&mut std::fs::File::create(&config)?, text.as_bytes())?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&config);
        let mut child = Child::start(command, &folder.join("mosquitto.log"))?;
        child
            .until(LISTENS, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
            .context("mosquitto does not listen")?;
        Ok(Some(Self { _child: child, port }))
    }
}

/// An application on the broker.
pub(crate) struct Application {
    runtime: tokio::runtime::Runtime,
    client: AsyncClient,
    events: rumqttc::EventLoop,
    topic: String,
    message: Vec<u8>,
}

impl Application {
    /// Connects, and prepares the one row that it asks.
    pub(crate) fn connect(port: u16, row: &[Tensor]) -> anyhow::Result<Self> {
        let runtime = runtime()?;
        let app = AppName::new(APP)?;
        let values = row.first().and_then(Tensor::f32s).context("a row of numbers")?;
        let row = Some(RowIn::List(values.iter().map(|value| Some(f64::from(*value))).collect()));
        let message = serde_json::to_vec(&FeaturesIn {
            model: None,
            id: None,
            row,
            rows: Vec::new(),
            parameters: Parameters::new(),
        })?;
        let mut options = MqttOptions::new("bench-application", "127.0.0.1", port);
        options.set_keep_alive(KEEP_ALIVE);
        let (client, mut events) = AsyncClient::new(options, QUEUE);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        let answers = Topic::Local(app.clone(), Local::Prediction).to_string();
        let topic = Topic::Local(app, Local::Features).to_string();
        let mut application = Self { runtime, client, events, topic, message };
        application.runtime.block_on(async {
            application.client.subscribe(answers, QoS::AtMostOnce).await?;
            loop {
                if let Event::Incoming(Packet::SubAck(_)) = application.events.poll().await? {
                    return anyhow::Ok(());
                }
            }
        })?;
        Ok(application)
    }

    /// Times a message and its answer.
    pub(crate) fn time(&mut self, count: usize) -> anyhow::Result<Times> {
        let Self { runtime, client, events, topic, message } = self;
        time(count, || {
            runtime.block_on(async {
                client.publish(topic.as_str(), QoS::AtMostOnce, false, message.clone()).await?;
                loop {
                    if let Event::Incoming(Packet::Publish(_)) = events.poll().await? {
                        return Ok(());
                    }
                }
            })
        })
    }
}
