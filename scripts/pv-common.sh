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

# target N: turn to the Nth of $repos: $repo is its name, $path how the tools take it.
target() {
	at=$1
	eval "set -- $repos"
	shift "$((at - 1))"
	repo=$1 path=$1
	case $repo in
	'') bad 'a repository is needed: -r REPO or PV_REPO' ;;
	-*) path=./$repo ;;
	esac
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

# store TOOL ARGUMENT…: run pv-put or pv-get as a stage. If the repository is on another
# machine, the tool runs itself there, and what that machine says is printed escaped.
store() {
	tool=$1
	shift
	stage "$tool" "$tool" ${talk:+"$talk"} "$path" "$@"
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
