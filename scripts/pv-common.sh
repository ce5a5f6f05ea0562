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
# are. Those in $own, which have an argument, and those in $flags, which have none,
# are gathered in $words, quoted; likewise those in $selects and $bare in $picks. Names
# alone are in $given, with a blank on each side. --revoked and --allow-revoked, where
# $own and $flags have them, are in $trust, quoted: whoever reads a snapshot takes them.
options() {
	own=" ${own:-} " flags=" ${flags:-} " selects=" ${selects:-} " bare=" ${bare:-} "
	words='' picks='' trust='' given=' ' talk='' repo=${PV_REPO:-} key=${PV_KEY:-} repos=0 taken=$#
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
			case " -r -k $own $flags $selects $bare " in *" $1 "*) ;; *) bad "unknown option $1" ;; esac
			option "$@"
			case $flags$bare in *" $1 "*) ;; *) shift ;; esac
			;;
		*) break ;;
		esac
		shift
	done
	taken=$((taken - $#))
	[ "$repos" -le 1 ] || bad 'one repository at a time'
	[ -n "$key" ] || bad 'a key is needed: -k KEY or PV_KEY'
}

# option NAME ARGUMENT…: read one option, for options.
option() {
	given="$given$1 "
	case $1 in
	--allow-revoked)
		trust="$trust $1"
		return
		;;
	esac
	case $flags in
	*" $1 "*)
		words="$words $1"
		return
		;;
	esac
	case $bare in
	*" $1 "*)
		picks="$picks $1"
		return
		;;
	esac
	[ $# -ge 2 ] || bad "$1 needs an argument"
	case $1 in
	-r) repo=$2 repos=$((repos + 1)) ;;
	-k) key=$2 ;;
	--revoked) trust="$trust $(quote "$1" "$2")" ;;
	*)
		case $selects in
		*" $1 "*) picks="$picks $(quote "$1" "$2")" ;;
		*) words="$words $(quote "$1" "$2")" ;;
		esac
		;;
	esac
}

# begin: look at the repository's name and make the private folder.
begin() {
	host='' port='' path=$repo running=''
	case $repo in
	'') bad 'a repository is needed: -r REPO or PV_REPO' ;;
	ssh://*) remote "${repo#ssh://}" ;;
	*://*) bad "repository $repo: a directory or ssh://[user@]host[:port]/path is meant" ;;
	-*) path=./$repo ;;
	[!/.]*:*) [ -d "$repo" ] || bad "repository $repo: for another machine say ssh://host/path, for a directory of that name ./$repo" ;;
	esac
	work=$(mktemp -d "${TMPDIR:-/tmp}/preserve.XXXXXXXXXX")
	trap finish EXIT
	if ! echo probe 2>/dev/null >"$work/probe"; then
		say "no room for a few bytes in ${TMPDIR:-/tmp}: make some, or set TMPDIR"
		exit 1
	fi
	trap stop HUP INT TERM
	exec 3>&2
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

# store TOOL ARGUMENT…: run pv-put or pv-get as a stage, where the repository is.
store() {
	tool=$1
	shift
	if [ -z "$host" ]; then
		stage "$tool" "$tool" ${talk:+"$talk"} "$path" "$@"
		return
	fi
	# PV_SSH is a command with options: it is meant to be split.
	# shellcheck disable=SC2086
	stage "$tool" ${PV_SSH:-ssh} ${port:+-p "$port"} "$host" "$(quote "$tool" ${talk:+"$talk"} "$path" "$@")"
}

# driven: the command that answers for the repository, for pv-unpack --from.
driven() {
	if [ -z "$host" ]; then
		quote pv-get ${talk:+"$talk"} "$path" --blobs -
		return
	fi
	# shellcheck disable=SC2086
	quote ${PV_SSH:-ssh} ${port:+-p "$port"} "$host" "$(quote pv-get ${talk:+"$talk"} "$path" --blobs -)"
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
	for stage in pv-unpack pv-put pv-seal pv-chunk pv-get pv-scan; do
		[ ! -s "$work/$stage.pid" ] || kill "$(cat "$work/$stage.pid")" 2>/dev/null || :
	done
	[ -z "$running" ] || wait "$running" 2>/dev/null || :
	exit 1
}
