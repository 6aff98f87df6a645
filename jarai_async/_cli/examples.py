"""The examples below the help text of each command."""

from typing import Final

_COLUMNS: Final = """\
columns of a CSV file, or keys of JSON objects:
  topic         what it is about, at most 500 characters; needed
  account_id, language_id, country_id, avatar_id
                UUIDs; needed where no option or variable gives them
  project_type  such as social-video-30s (default: that of the account)
  metadata      Markdown, at most 4,096 characters
  reference     your own name for it (default: made from its content;
                two lines that are alike are two requests)
  extra         a JSON object with further fields of the API

example of a batch:
  reference,topic,project_type
  tides-1,"How tides work, in one minute",social-video-30s
  tides-2,Five myths about tides,article-1500w
"""

EXAMPLES: Final = {
    "run": f"""\
{_COLUMNS}
examples:
  jarai run topics.csv --simulate
  jarai run topics.csv --dry-run
  jarai run topics.csv --download-to videos --deadline 2h30m > events.jsonl
  jarai run topics.csv --webhook-port 8080 --per-minute 30 --events events.jsonl
""",
    "resume": """\
examples:
  jarai resume topics.csv.journal
  jarai resume topics.csv.journal --concurrency 20
""",
    "worker": """\
examples:
  jarai worker postgresql://db/jarai --concurrency 500 --download-to /mnt/deliverables
  JARAI_DATABASE=postgresql://db/jarai jarai worker
""",
    "plan": f"""\
{_COLUMNS}
example:
  jarai plan topics.csv --tier standard
""",
    "journal": """\
examples:
  jarai journal topics.csv.journal
  jarai journal topics.csv.journal --state uncertain
  jarai journal topics.csv.journal --json | jq 'select(.outcome == "failed") | .errorCode'
""",
    "report": """\
example:
  jarai report topics.csv.journal
""",
    "resolve": """\
examples:
  jarai resolve topics.csv.journal tides-1 --production-id 11111111-1111-4111-8111-111111111111
  jarai resolve topics.csv.journal tides-1 tides-2 --resubmit
""",
    "retry": """\
examples:
  jarai retry topics.csv.journal
  jarai retry topics.csv.journal tides-1
""",
    "forget": """\
examples:
  jarai forget topics.csv.journal --older-than 30d --dry-run
  jarai forget topics.csv.journal tides-1 tides-2
""",
    "status": """\
example:
  jarai status 11111111-1111-4111-8111-111111111111
""",
    "cancel": """\
example:
  jarai cancel 11111111-1111-4111-8111-111111111111
""",
    "deliverables": """\
examples:
  jarai deliverables 11111111-1111-4111-8111-111111111111
  jarai deliverables 11111111-1111-4111-8111-111111111111 --download-to videos
""",
    "accounts": """\
examples:
  jarai accounts
  jarai accounts --json | jq -r .accountId
""",
    "list": """\
example:
  jarai webhooks list
""",
    "create": """\
examples:
  jarai webhooks create https://example.org/jarai
  jarai webhooks create https://example.org/jarai production.published production.failed
""",
    "delete": """\
example:
  jarai webhooks delete 11111111-1111-4111-8111-111111111111
""",
    "test": """\
example:
  jarai webhooks test 11111111-1111-4111-8111-111111111111
""",
    "listen": """\
example:
  JARAI_WEBHOOK_SECRET=... jarai webhooks listen --port 8080 --path /jarai
""",
    "webhooks": """\
example:
  jarai webhooks create https://example.org/jarai
""",
    "simulate": """\
examples:
  jarai simulate
  jarai simulate --tier standard --speed 60
  jarai simulate --state simulator.jsonl --fault reset_after:submit --when "3 fails step=8"
  curl --data "when topic=Bees awaits_approval 7200 refused=true" "$JARAI_CONTROL_URL"
  eval "$(jarai simulate --background)"
""",
    "completion": """\
examples:
  jarai completion bash > ~/.local/share/bash-completion/completions/jarai
  jarai completion zsh > ~/.zfunc/_jarai
""",
}
