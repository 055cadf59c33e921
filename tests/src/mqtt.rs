//! A plain MQTT client for tests: publishes with acknowledgement, collects what arrives.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use rumqttc::{AsyncClient, Event, MqttOptions, Outgoing, Packet, QoS};
use tokio::sync::watch;

use crate::services::unique;
use crate::wait;

/// Topic and body of a message.
pub type Received = (String, Vec<u8>);

/// A client that stays connected to a broker through its restarts.
#[derive(Debug)]
pub struct MqttClient {
    client: AsyncClient,
    received: Arc<Mutex<Vec<Received>>>,
    n_acked: watch::Receiver<u64>,
    n_subscribed: watch::Receiver<u64>,
    n_published: std::sync::atomic::AtomicU64,
    task: tokio::task::JoinHandle<()>,
}

impl MqttClient {
    /// Connects to the broker on `port`.
    #[expect(clippy::disallowed_methods, reason = "the client's own loop; joined by abort when the client is dropped")]
    pub fn connect(port: u16) -> Self {
        let mut options = MqttOptions::new(unique("test"), "127.0.0.1", port);
        options.set_clean_session(false).set_keep_alive(Duration::from_secs(5)).set_inflight(100);
        options.set_max_packet_size(16 << 20, 16 << 20);
        let (client, mut events) = AsyncClient::new(options, 10_000);
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let (ack_sender, n_acked) = watch::channel(0);
        let (subscribe_sender, n_subscribed) = watch::channel(0);
        let sink = Arc::clone(&received);
        let task = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let message = (publish.topic, publish.payload.to_vec());
                        sink.lock().unwrap_or_else(PoisonError::into_inner).push(message);
                    }
                    Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => ack_sender.send_modify(|n| *n += 1),
                    Ok(Event::Incoming(Packet::SubAck(_))) => subscribe_sender.send_modify(|n| *n += 1),
                    Ok(Event::Outgoing(Outgoing::Disconnect)) => break,
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        MqttClient { client, received, n_acked, n_subscribed, n_published: 0.into(), task }
    }

    /// Subscribes with QoS 1 and waits until the broker has confirmed it.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn subscribe(&self, filter: &str) -> Result<()> {
        let before = *self.n_subscribed.borrow();
        self.client.subscribe(filter, QoS::AtLeastOnce).await?;
        self.n_subscribed.clone().wait_for(|n| *n > before).await?;
        Ok(())
    }

    /// Publishes with QoS 1 without waiting; see [`MqttClient::acknowledged`].
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn publish(&self, topic: &str, body: impl Into<Vec<u8>>) -> Result<()> {
        self.n_published.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.client.publish(topic, QoS::AtLeastOnce, false, body).await?;
        Ok(())
    }

    /// Waits until the broker has acknowledged everything that was published.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn acknowledged(&self) {
        let n_published = self.n_published.load(std::sync::atomic::Ordering::Relaxed);
        let mut n_acked = self.n_acked.clone();
        let in_time = tokio::time::timeout(wait::DEADLINE, n_acked.wait_for(|n| *n >= n_published)).await.is_ok();
        assert!(in_time, "the broker has acknowledged {} of {n_published} messages", *self.n_acked.borrow());
    }

    /// Everything received so far, as topic and body, in order.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The rows received so far: each body is a JSON row or a list of rows.
    ///
    /// # Panics
    /// When a body is no JSON.
    pub fn rows(&self) -> Vec<serde_json::Value> {
        let mut rows = Vec::new();
        for (topic, body) in self.received() {
            match serde_json::from_slice(&body) {
                Ok(serde_json::Value::Array(list)) => rows.extend(list),
                Ok(row) => rows.push(row),
                Err(error) => panic!("{topic}: {error}: {}", String::from_utf8_lossy(&body)),
            }
        }
        rows
    }

    /// Waits until at least `n` rows have arrived and gives them.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn wait_rows(&self, n: usize) -> Vec<serde_json::Value> {
        let start = std::time::Instant::now();
        loop {
            let rows = self.rows();
            if rows.len() >= n {
                return rows;
            }
            assert!(start.elapsed() < wait::DEADLINE, "only {} of {n} rows arrived: {rows:?}", rows.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for MqttClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}
