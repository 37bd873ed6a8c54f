#!/usr/bin/env bash
# 'make screenshot': makes docs/live.png, a picture of the live page in the first half minute of a 'make demo'. Needs
# what 'make up' runs, without an ADMIN_TOKEN.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

picture=docs/live.png
url=${FLASHSALE_URL-http://127.0.0.1:8080}
curl -s --noproxy '*' --max-time 5 -o /dev/null "$url/livez" || fail "nothing answers at $url: run 'make up' first."
deploy/local/install.sh chromium chromedriver
build_release

work=$(mktemp -d)
clean_up() {
    if [[ -n ${driver-} ]]; then
        kill -- "-$driver" 2>/dev/null || true
        wait "$driver" || true
    fi
    # The browser may still be writing.
    rm -rf "$work" || true
}
trap clean_up EXIT

# In its own session it leads a process group, which contains its browser.
TMPDIR=$work setsid chromedriver --port=0 >"$work/driver.log" 2>&1 &
driver=$!
driver_port() { sed -nE 's/.* started successfully on port ([0-9]+).*/\1/p' "$work/driver.log"; }
started() { [[ -n $(driver_port) ]]; }
wait_until 30 ChromeDriver started || { show_log "$work/driver.log" && fail "ChromeDriver does not start."; }

# webdriver PATH JSON: one command of the WebDriver protocol.
webdriver() {
    curl -sS --fail-with-body --noproxy '*' --max-time 60 -H 'Content-Type: application/json' -d "$2" \
        "http://127.0.0.1:$(driver_port)/session$1"
}
browser=$(command -v chromium)
session=$(webdriver '' '{"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"binary": "'"$browser"'",
    "args": ["--headless=new", "--no-sandbox", "--hide-scrollbars"]}}}}' | grep -oE '"sessionId": *"[^"]+"' | cut -d '"' -f 4)
size='{"width": 1440, "height": 1560, "deviceScaleFactor": 1, "mobile": false}'
webdriver "/$session/goog/cdp/execute" '{"cmd": "Emulation.setDeviceMetricsOverride", "params": '"$size"'}' >/dev/null
webdriver "/$session/url" '{"url": "'"$url"'/"}' >/dev/null

say "a sale begins; the picture is taken after half a minute"
deploy/local/demo.sh >"$work/demo.log" 2>&1 &
demo=$!
sleep 30
webdriver "/$session/goog/cdp/execute" '{"cmd": "Page.captureScreenshot", "params": {"format": "png"}}' |
    grep -oE '"data": *"[^"]+"' | cut -d '"' -f 4 | base64 -d >"$work/live.png"
mv "$work/live.png" "$picture"
# Ends the browser.
curl -sS --noproxy '*' --max-time 60 -o /dev/null -X DELETE "http://127.0.0.1:$(driver_port)/session/$session"
say "made $picture; the sale goes on until its end"
wait "$demo" || { show_log "$work/demo.log" && fail "the sale failed."; }
