use super::*;

const SOON: Limits = Limits { wall_s: 20, ..Limits::ADMIT };

/// A shell in the place of the agent: its arguments are those of a child, after the prefix.
async fn shell(script: &str, admit: Limits) -> Result<AdmissionReport, String> {
    let state = tempfile::tempdir().unwrap();
    let program = (PathBuf::from("/bin/sh"), vec!["-c".into(), script.into(), "agent".into()]);
    let workers = Workers::new(program, state.path().to_owned(), admit, SOON).unwrap();
    let outcome = workers.attempt(Digest([1; 32])).await.outcome.map_err(|cause| cause.to_string());
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0, "the job is gone");
    outcome
}

#[tokio::test]
async fn a_childs_fate_is_named() {
    for (script, words) in [
        ("echo one >&2; echo two >&2; exit 3", vec!["exit code 3", "one | two"]),
        ("kill -9 $$", vec!["killed by signal 9 (out of memory?)"]),
        ("kill -XCPU $$", vec!["processor time"]),
        ("echo hello", vec!["gave no answer"]),
        (r#"echo '{"no":{"kind":"x","reason":"not today"}}'"#, vec!["not today"]),
        (r#"i=0; while [ $i -lt 3000 ]; do echo "line $i" >&2; i=$((i+1)); done; exit 1"#, vec!["line 2999"]),
    ] {
        let error = shell(script, SOON).await.unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)) && error.len() < 300, "{error}");
    }
}

#[tokio::test]
async fn a_run_is_heard_of_and_told_to_stop() {
    let state = tempfile::tempdir().unwrap();
    // Says one step, and waits until its job is gone.
    let script = r#"echo '{"step":3,"steps":9,"loss":0.5}'; while [ -e "$3" ]; do sleep 0.01; done; echo '{"no":{"kind":"","reason":"paused at step 4 of 9"}}'"#;
    let program = (PathBuf::from("/bin/sh"), vec!["-c".into(), script.into(), "agent".into()]);
    let workers = Workers::new(program, state.path().to_owned(), SOON, SOON).unwrap();
    let job = TrainJob {
        run: 7,
        model: shoal_proto::id::ModelName::new("gas").unwrap(),
        parent: Digest([1; 32]),
        device: shoal_proto::id::DeviceId::new("press-07").unwrap(),
        number: 1,
        seed: 1,
        recipe: shoal_proto::manifest::Recipe::default(),
        holdout_share: 0.3,
        sources: shoal_proto::decision::SourceRules::default(),
    };
    let asked = async {
        while workers.progress(7).is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(workers.progress(7).unwrap(), Said::at(3, 9, Some(0.5)));
        workers.stop(6); // nobody
        workers.stop(7);
    };
    let (ended, ()) = tokio::join!(workers.train(job), asked);
    assert_eq!(ended.unwrap_err().reason, "paused at step 4 of 9");
    assert_eq!(workers.progress(7), None, "over");
}

#[tokio::test]
async fn a_child_gets_prefix_command_and_job() {
    let script = r#"[ "$1 $2" = "worker admit" ] && grep -q '"version":"0101' "$3" && [ "$RAYON_NUM_THREADS" = 1 ] && [ "$RUST_BACKTRACE" = 0 ] && echo '{"no":{"kind":"x","reason":"as expected"}}'"#;
    assert_eq!(shell(script, SOON).await.unwrap_err(), "as expected");
}

#[tokio::test]
async fn a_child_that_hangs_is_ended() {
    let error = shell("exec sleep 600", Limits { wall_s: 1, ..SOON }).await.unwrap_err();
    assert!(error.contains("longer than 1 s"), "{error}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named_and_old_jobs_are_cleaned() {
    let state = tempfile::tempdir().unwrap();
    fs::File::create(state.path().join(".job-old.json")).unwrap();
    let program = (PathBuf::from("/no/such/agent"), Vec::new());
    let workers = Workers::new(program, state.path().to_owned(), SOON, SOON).unwrap();
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    let error = workers.admit(Digest([1; 32])).await.unwrap_err();
    assert!(error.contains("/no/such/agent"), "{error}");
}
