//! One application that speaks with the agent: lines of requests in, lines of results and events out.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::broadcast::error::RecvError;

use crate::failure::CliError;
use crate::lines;
use crate::request::{Line, Request, result_json};
use crate::timeline::{error_json, stream_line};

use super::shared::{Listener, Shared};

/// How many requests of one application may await their results; a further one is not read before.
const MAX_OPEN: usize = 64;

type Open<'s> = Pin<Box<dyn Future<Output = Option<String>> + Send + 's>>;

/// Which application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// At the ends of the pipes: it hears everything from the beginning and, if it only listens, for ever.
    Pipes,
    /// A person at a terminal, who reads the story on standard error and hears results alone.
    Terminal,
    /// On the socket: it hears everything once it asks for it, and has gone when it closes its end.
    Socket,
}

/// Until the application has gone.
pub(super) async fn serve(
    shared: Arc<Shared>,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
    peer: Peer,
) {
    // One that went is no error of ours.
    let _ = talk(&shared, BufReader::new(input), output, peer).await;
}

async fn talk(
    shared: &Shared,
    mut input: impl AsyncBufRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
    peer: Peer,
) -> std::io::Result<()> {
    let mut listener = if peer == Peer::Pipes { shared.listen() } else { None };
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut line = Vec::new();
    let mut reads = true;
    // Who closes its end is told the results that are still to come.
    while reads || !open.is_empty() || (listener.is_some() && peer == Peer::Pipes) {
        let answer = tokio::select! {
            biased;
            answer = done(&mut open), if !open.is_empty() => answer,
            heard = hear(&mut listener), if listener.is_some() => match heard {
                Some(line) => Some(line),
                // The agent ends.
                None => return Ok(()),
            },
            more = lines::read(&mut input, &mut line), if reads && open.len() < MAX_OPEN => {
                if !more? {
                    reads = false;
                    // Nobody is there to answer calls any more.
                    if let Some(listener) = &mut listener {
                        listener.cannot_answer();
                    }
                    continue;
                }
                let read = lines::take(&mut line);
                match ask(shared, read, &mut listener).await {
                    Asked::Nothing => None,
                    Asked::Answer(answer) => Some(answer),
                    Asked::Open(request) => {
                        open.push(request);
                        None
                    }
                }
            }
        };
        if let Some(answer) = answer {
            output.write_all(format!("{answer}\n").as_bytes()).await?;
            output.flush().await?;
        }
    }
    Ok(())
}

enum Asked<'s> {
    Nothing,
    Answer(String),
    Open(Open<'s>),
}

async fn ask<'s>(
    shared: &'s Shared,
    line: Result<String, &'static str>,
    listener: &mut Option<Listener<'s>>,
) -> Asked<'s> {
    let failed = |id: Option<&Value>, error: CliError| {
        Asked::Answer(stream_line(&result_json(id, Err(error_json(&error)))))
    };
    let text = match line {
        Ok(text) if text.trim().is_empty() => return Asked::Nothing,
        Ok(text) => text,
        Err(reason) => return failed(None, CliError::Line(reason)),
    };
    let (id, request) = match Line::parse(&text) {
        Ok(line) => (line.id, line.request),
        Err((id, error)) => return failed(id.as_ref(), error.into()),
    };
    if request == Request::Subscribe {
        *listener = listener.take().or_else(|| shared.listen());
    }
    // Without an id nobody waits: a message is done with once it is taken, and the next one is read then.
    if let (None, Request::Telemetry(telemetry)) = (&id, &request) {
        return match shared.device().enqueue_telemetry(telemetry.clone()).await {
            Ok(()) => Asked::Nothing,
            Err(error) => failed(None, error.into()),
        };
    }
    let mut open: Open<'s> = Box::pin(async move {
        let outcome = shared.perform(request).await;
        let quiet = id.is_none() && outcome.is_ok();
        let outcome = outcome.map_err(|error| error_json(&error));
        (!quiet).then(|| stream_line(&result_json(id.as_ref(), outcome)))
    });
    // On its way before the next line is read, so that messages stay in their order.
    match poll_fn(|context| Poll::Ready(open.as_mut().poll(context))).await {
        Poll::Ready(Some(answer)) => Asked::Answer(answer),
        Poll::Ready(None) => Asked::Nothing,
        Poll::Pending => Asked::Open(open),
    }
}

/// The next that is done.
async fn done(open: &mut Vec<Open<'_>>) -> Option<String> {
    poll_fn(|context| {
        let ready = open.iter_mut().enumerate().find_map(|(index, request)| {
            match request.as_mut().poll(context) {
                Poll::Ready(answer) => Some((index, answer)),
                Poll::Pending => None,
            }
        });
        match ready {
            Some((index, answer)) => {
                drop(open.remove(index));
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    })
    .await
}

async fn hear(listener: &mut Option<Listener<'_>>) -> Option<String> {
    let lines = &mut listener.as_mut()?.lines;
    match lines.recv().await {
        Ok(line) => Some(line.to_string()),
        Err(RecvError::Lagged(missed)) => {
            Some(stream_line(&json!({ "event": "lagged", "missed": missed })))
        }
        Err(RecvError::Closed) => None,
    }
}
