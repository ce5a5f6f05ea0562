# shellcheck shell=sh
# What the scripts of Preserve share. Each of them sources this file, which
# stands beside it.
#
# A pipeline's stages run side by side in the background, so that a signal to
# the script ends them all at once. Each leaves its process id and its exit
# status as files in a private folder. The end record is what proves that a
# pipeline worked, so the last stage's status is the truth about all of them; the
# other statuses only help to say what happened.

name=${0##*/}
here=$(dirname -- "$(readlink -f -- "$0")")

# The tools are beside the scripts, in ../bin, or on PATH.
for dir in "$here" "$here/../bin"; do
	if [ -x "$dir/pv-scan" ]; then
		PATH=$(cd -- "$dir" && pwd):$PATH
		break
	fi
done

# say TEXT: a message.
say() {
	printf '%s: %s\n' "$name" "$1" >&2
}

# tell TEXT: a message that -q silences.
tell() {
	[ "$talk" = -q ] || say "$1"
}

# bad TEXT: a wrong command line.
bad() {
	say "$1 (see $name -h)"
	exit 2
}

# quote WORD…: the words, each quoted for a shell, with spaces between.
quote() {
	gap=''
	for word; do
		# The x keeps newlines at the end.
		word=$(printf '%sx' "$word" | sed "s/'/'\\\\''/g")
		printf "%s'%s'" "$gap" "${word%x}"
		gap=' '
	done
}

# options ARGUMENT…: read the options in front; "taken" says how many words they
# are. $takes lists those of the script beside -r and -k, as LIST:NAME, or LIST:NAME= if
# it has an argument. Each that is given is added to the variable LIST, quoted, and
# its name to $given, with a blank on each side. $repos is the repositories, quoted: one,
# or with $several any number. With $keyless it needs no key. Whoever reads a snapshot takes
# $trust, which --revoked and --allow-revoked are in.
options() {
	# shellcheck disable=SC2034
	words='' picks='' trust='' given=' ' talk='' repos='' count=0 key=${PV_KEY:-} taken=$#
	for list in ${takes:-}; do eval "${list%%:*}=''"; done
	while [ $# -gt 0 ]; do
		case $1 in
		-h | --help)
			printf %s "$usage"
			exit 0
			;;
		-v | -q) talk=$1 ;;
		--)
			shift
			break
			;;
		-?*)
			option "$@"
			shift "$((width - 1))"
			;;
		*) break ;;
		esac
		shift
	done
	taken=$((taken - $#))
	[ "$count" -gt 0 ] || [ -z "${PV_REPO:-}" ] || add "$PV_REPO"
	[ "$count" -le 1 ] || [ -n "${several:-}" ] || bad 'one repository at a time'
	[ -n "$key" ] || [ -n "${keyless:-}" ] || bad 'a key is needed: -k KEY or PV_KEY'
}

# option NAME ARGUMENT…: read one option, for options; "width" says how many words it
# is.
option() {
	spec=" ${takes:-} repos:-r= key:-k= " width=2
	case $1 in *[!A-Za-z0-9-]*) bad "unknown option $1" ;; esac
	case $spec in
	*":$1= "*) list=${spec%%":$1= "*} ;;
	*":$1 "*) list=${spec%%":$1 "*} width=1 ;;
	*) bad "unknown option $1" ;;
	esac
	[ $# -ge "$width" ] || bad "$1 needs an argument"
	given="$given$1 " list=${list##* }
	case $list:$width in
	repos:*) add "$2" ;;
	key:*) key=$2 ;;
	*:1) eval "$list=\"\$$list \$1\"" ;;
	*) eval "$list=\"\$$list \$(quote \"\$1\" \"\$2\")\"" ;;
	esac
}

# add REPO: one more repository.
add() {
	repos="$repos $(quote "$1")" count=$((count + 1))
}

# begin: look at the repositories' names and make the private folder.
begin() {
	running=''
	[ "$count" -gt 0 ] || bad "a repository is needed: -r REPO or PV_REPO"
	nth=$count
	while [ "$nth" -gt 0 ]; do
		target "$nth"
		nth=$((nth - 1))
	done
	work=$(mktemp -d "${TMPDIR:-/tmp}/preserve.XXXXXXXXXX")
	trap finish EXIT
	if ! echo probe 2>/dev/null >"$work/probe"; then
		say "no room for a few bytes in ${TMPDIR:-/tmp}: make some, or set TMPDIR"
		exit 1
	fi
	trap stop HUP INT TERM
	exec 3>&2
}

# target N: turn to the Nth of $repos: $repo is its name, $host, $port and $path what
# that is made of.
target() {
	at=$1
	eval "set -- $repos"
	shift "$((at - 1))"
	repo=$1 host='' port='' path=$1
	case $repo in
	'') bad 'a repository is needed: -r REPO or PV_REPO' ;;
	ssh://*) remote "${repo#ssh://}" ;;
	*://*) bad "repository $repo: a directory or ssh://[user@]host[:port]/path is meant" ;;
	-*) path=./$repo ;;
	[!/.]*:*) [ -d "$repo" ] || bad "repository $repo: for another machine say ssh://host/path, for a directory of that name ./$repo" ;;
	esac
}

# remote [USER@]HOST[:PORT]/PATH: split it. PATH is absolute.
remote() {
	case $1 in */?*) ;; *) bad "repository $repo: the path is missing: ssh://[user@]host[:port]/path" ;; esac
	host=${1%%/*} path=/${1#*/}
	case $host in
	*]) ;; # an IPv6 address: [::1]
	*:*) port=${host##*:} host=${host%:*} ;;
	esac
	host=$(printf %s "$host" | tr -d '[]')
	case $host in '' | -* | *@ | *@-* | *[!A-Za-z0-9@._:%-]*) bad "repository $repo: \"$host\" is no host" ;; esac
	case $port in *[!0-9]*) bad "repository $repo: \"$port\" is no port" ;; esac
}

# stage NAME COMMAND…: run a command of a pipeline. Its stderr is this script's,
# which is 3 here.
stage() {
	stage=$1 status=0
	shift
	sh -c 'echo "$$" >"$0"; exec 2>&3 3>&-; exec "$@"' "$work/$stage.pid" "$@" || status=$?
	echo "$status" >"$work/$stage.status"
	return "$status"
}

# there TOOL ARGUMENT…: the command that runs pv-put or pv-get where the repository is,
# quoted.
there() {
	tool=$1
	shift
	if [ -z "$host" ]; then
		quote "$tool" ${talk:+"$talk"} "$path" "$@"
		return
	fi
	# PV_SSH is a command with options: it is meant to be split.
	# shellcheck disable=SC2086
	quote ${PV_SSH:-ssh} ${port:+-p "$port"} "$host" "$(quote "$tool" ${talk:+"$talk"} "$path" "$@")"
}

# store TOOL ARGUMENT…: run pv-put or pv-get as a stage, where the repository is.
store() {
	eval "stage \"\$1\" $(there "$@")"
}

# run PIPELINE ARGUMENT…: run a function that is a pipeline. What the shell itself
# would say of a killed stage goes nowhere: verdict says it.
run() {
	"$@" 2>/dev/null &
	running=$!
	wait "$running" || :
	running=''
}

# verdict STAGE…: say what no stage has said, and return the exit status that
# the stages, in the order of the pipeline, make.
verdict() {
	last='' usage='' deaths=''
	for stage; do
		last=$(cat "$work/$stage.status" 2>/dev/null) || last=137
		: "${last:=137}"
		signal=$((last - 128))
		if [ "$last" -eq 2 ]; then
			usage=yes
		elif [ "$last" -eq 255 ]; then
			deaths="$deaths $stage:255"
		elif [ "$signal" -gt 0 ] && kind=$(kill -l "$signal" 2>/dev/null) && [ "${kind#SIG}" != PIPE ]; then
			deaths="$deaths $stage:$signal"
		fi
	done
	case $last in 0 | 3) return "$last" ;; esac
	for death in $deaths; do
		case $death in
		*:255) say "${death%:*}: the connection to the repository's host has ended" ;;
		*) say "${death%:*} was killed by signal ${death#*:}" ;;
		esac
	done
	[ -z "$usage" ] || return 2
	return 1
}

# ids: the lines that are nothing but an id. A login script over there may print more, and
# a file may be damaged: grep must not take either for binary.
ids() {
	LC_ALL=C tr -c '0-9a-f\n' '?' | { grep -x '[0-9a-f]\{64\}' || [ $? -eq 1 ]; }
}

# ask FILE ARGUMENT…: what pv-get answers about the repository, in FILE. Returns its
# status: 0 or 3; 1, and what it said is in $work/said; 255 if nobody answered.
ask() {
	answer=$1
	shift
	rm -f "$work"/pv-*
	run store pv-get "$@" >"$answer" 3>"$work/said"
	status=0
	verdict pv-get 2>>"$work/said" || status=$?
	case $(cat "$work/pv-get.status" 2>/dev/null) in 255 | '') status=255 ;; esac
	rm -f "$work"/pv-*
	return "$status"
}

# refused: whether what was said is that pv-serve, over there, does not allow this.
refused() {
	grep -q '^pv-serve: ' "$work/said"
}

# absent: whether what was said is that there is no repository.
absent() {
	grep -q '^pv-get: .* is not a Preserve repository' "$work/said"
}

# learn N…: the ids of all blobs that every one of these targets has, in the file
# $known, which is empty if one of them does not say.
learn() {
	known=''
	for one; do
		target "$one"
		status=1
		if [ -n "$host" ] || [ -e "$path/config" ]; then
			status=0
			ask "$work/answer" --ids || status=$?
		fi
		case $status in
		0 | 3) ;;
		*)
			known=''
			return
			;;
		esac
		ids <"$work/answer" >"$work/ids"
		if [ -z "$known" ]; then
			known=$work/known
			mv -f "$work/ids" "$known"
		else
			comm -12 "$known" "$work/ids" >"$work/both"
			mv -f "$work/both" "$known"
		fi
	done
}

# copy FROM TO ID SINCE KNOWN: copy a snapshot from one target to another, but for what
# the snapshots in SINCE hold, and the ids in the file KNOWN; both may be empty. What
# pv-put prints goes to $work/report. What pv-get said is in $work/said, for refused.
copy() {
	rm -f "$work"/pv-*
	run copying "$@" >"$work/report"
	status=0
	verdict pv-get pv-put || status=$?
	refused || cat "$work/said" >&2
	return "$status"
}

copying() {
	{
		target "$1"
		# shellcheck disable=SC2086 # as many words as there are
		store pv-get --copy "$3" ${4:+--since "$4"} ${5:+--known -} <"${5:-/dev/null}" 3>"$work/said"
	} | {
		target "$2"
		store pv-put
	}
}

# resolve SNAPSHOT: the full id of a snapshot in $id.
resolve() {
	[ -n "$1" ] || bad 'the snapshot is empty: an id, the beginning of one, a label or latest is meant'
	id=$(printf %s "$1" | tr A-F a-f)
	case $id in *[!0-9a-f]*) ;; *) [ ${#id} -ne 64 ] || return 0 ;; esac
	run pick "$1" >"$work/id"
	status=0
	verdict pv-get pv-unpack || status=$?
	id=$(cat "$work/id")
	# 3: the list is not whole, but the snapshot was found in it.
	[ "$status" -eq 3 ] || [ "$status" -eq 0 ] || exit "$status"
	rm -f "$work"/pv-*
}

pick() {
	store pv-get --snapshots |
		eval "stage pv-unpack pv-unpack ${talk:+"$talk"} -k \"\$key\" $trust --snapshots --pick \"\$1\""
}

# finish: remove the folder.
finish() {
	rm -rf -- "$work"
}

# stop: end the stages, the last one first so that none sees another end, wait for
# them to clean up, and fail.
stop() {
	trap '' HUP INT TERM
	for stage in pv-unpack pv-put pv-tee pv-seal pv-chunk pv-get pv-scan; do
		[ ! -s "$work/$stage.pid" ] || kill "$(cat "$work/$stage.pid")" 2>/dev/null || :
	done
	[ -z "$running" ] || wait "$running" 2>/dev/null || :
	exit 1
}
