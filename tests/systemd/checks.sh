# What is promised of the installed service, tried under systemd: see run.sh.
set -euo pipefail

check() { # what, and a command that is true within 40 s
  local what=$1
  shift
  for _ in $(seq 200); do
    if "$@" > /dev/null 2>&1; then
      echo "ok: $what"
      return
    fi
    sleep 0.2
  done
  echo "NOT SO: $what"
  systemctl status zerotouch --no-pager || true
  journalctl --unit zerotouch --no-pager
  exit 1
}
of() { systemctl show zerotouch --property "$1" --value; }
is() { [ "$(of "$1")" = "$2" ]; }
told() { journalctl --unit zerotouch --no-pager | grep -q -- "$1"; }
as_service() { runuser --user zerotouch -- zerotouch "$@" --config /etc/zerotouch/zerotouch.toml; }
answers() { as_service status | grep -q 'agent  *connected'; }
another_process() { is SubState running && ! is MainPID "$before"; }

dpkg --install /mnt/zerotouch.deb
check 'neither enabled nor started' is ActiveState inactive

zerotouch emulator --output json --data-dir /root/emulator > /tmp/ready &
check 'the emulator is ready' test -s /tmp/ready
member() { grep --only-matching --max-count 1 "\"$1\":\"[^\"]*\"" /tmp/ready | head -1 | cut -d '"' -f 4; }
member primaryKey > /tmp/key
install -m 0640 -o root -g zerotouch /tmp/key /etc/zerotouch/key
install -m 0644 "$(member caFile)" /etc/zerotouch/ca.pem
cat >> /etc/zerotouch/zerotouch.toml << SETTINGS
id-scope = "$(member idScope)"
registration-id = "pump-17"
symmetric-key = "file:/etc/zerotouch/key"
compute-key = true
provisioning-host = "localhost"
ca-file = "/etc/zerotouch/ca.pem"
SETTINGS
# Not to wait for long.
mkdir /etc/systemd/system/zerotouch.service.d
printf '[Service]\nWatchdogSec=4\nRestartSec=1\n' > /etc/systemd/system/zerotouch.service.d/quick.conf
systemctl daemon-reload

systemctl start zerotouch
check 'started only once it is connected' is StatusText connected
check 'the journal tells people' told 'connected to localhost with the new certificate'
check 'the identity is its alone' test "$(stat --format '%U %a' /var/lib/zerotouch)" = 'zerotouch 700'
check 'the socket answers' answers
check 'the socket answers root' zerotouch twin get --config /etc/zerotouch/zerotouch.toml

before=$(of MainPID)
systemctl reload zerotouch
check 'it reads its settings again' told 'settings read again'
check 'as the same process' is MainPID "$before"

systemctl kill --signal KILL zerotouch
check 'what is killed is started again' another_process
before=$(of MainPID)
systemctl kill --signal STOP zerotouch
check 'what hangs is killed and started again' another_process
check 'by the watchdog' journalctl --no-pager --grep 'Watchdog timeout'
check 'and is connected' answers

systemctl stop zerotouch
check 'it says farewell' told stopped
check 'and ends well' is Result success

cp /etc/zerotouch/zerotouch.toml /tmp/good
echo 'sorcery = 1' >> /etc/zerotouch/zerotouch.toml
systemctl start zerotouch && exit 1
sleep 3
check 'what cannot work is not tried again' is NRestarts 0
check 'and says why' told 'there is no setting "sorcery"'
cp /tmp/good /etc/zerotouch/zerotouch.toml
systemctl start zerotouch
check 'with good settings it is back' answers

dpkg --purge zerotouch
check 'a purge leaves the identity' test -d /var/lib/zerotouch/pump-17
