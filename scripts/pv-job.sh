# shellcheck shell=sh
# shellcheck disable=SC2154 # pv-common.sh and pv-backup set variables that are used here
# What pv-backup remembers from one run to the next: a directory for each job, with
# these files beside the caches that pv-seal writes there.
#
#	order      the snapshots of this job, the newest last
#	at-HASH    those of them that a repository has taken; HASH is of its name
#	run-PID    a mark: this process makes a backup. It stays if it does not succeed
#	reminded   a mark: when it was last seen to that there is a copy of the key
#	job        what the job is, for people
#
# The cache of a snapshot is ID; of a whole snapshot there is ID.ids, too.

# remembered is how many snapshots are remembered for each repository.
remembered=64

# open_job DIR SOURCE…: the directory of this job, in $job: DIR, or if that is empty one
# below the user's cache directory. If there can be none, $job is empty.
open_job() {
	job=$1
	shift
	if [ -z "$job" ]; then
		job=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}
		job=${PV_CACHE:-${job:+$job/preserve}}
		if [ -z "$job" ]; then
			tell 'neither HOME nor XDG_CACHE_HOME is set: nothing is remembered for the next run (--cache DIR would)'
			return
		fi
		job=$job/$(describe "$@" | sha256sum | cut -c 1-32)
	fi
	case $job in /*) ;; *) job=$PWD/$job ;; esac
	if [ -d "$job" ] && [ ! -e "$job/CACHEDIR.PRESERVE" ] && [ -n "$(ls -A -- "$job")" ]; then
		say "$job is not empty, and no cache: name a directory for the cache alone"
		exit 1
	fi
	if ! mark_job "$@" 2>/dev/null; then
		tell "$job cannot be written: nothing is remembered for the next run"
		job=''
	fi
}

# mark_job SOURCE…: make the directory, marked as one that need not be backed up.
mark_job() {
	(
		umask 077
		mkdir -p -- "$job" || exit
		if [ ! -e "$job/CACHEDIR.PRESERVE" ]; then
			echo 'Signature: 8a477f597d28d172789f06886806bc55' >"$job/CACHEDIR.TAG" && : >"$job/CACHEDIR.PRESERVE" || exit
		fi
		# What a run that was killed, or had no room, has left half done.
		for left in "$job"/job.* "$job"/order.* "$job"/at-*.*; do
			case ${left##*.} in '' | *[!0-9]*) continue ;; esac
			kill -0 "${left##*.}" 2>/dev/null || rm -f -- "$left"
		done
		if ! { describe "$@" | tr '\000' '\n' >"$job/job.$$" && mv -f -- "$job/job.$$" "$job/job"; }; then
			rm -f -- "$job/job.$$"
			exit 1
		fi
	)
}

# describe SOURCE…: what makes a run one of this job: the first repository, this host,
# the label, and the sources.
describe() {
	target 1
	location
	printf '%s\0' "$where" "$(uname -n)" "$label$lists"
	[ -z "$lists" ] || printf '%s\0' "$PWD"
	for source; do
		case $source in
		/*) printf '%s\0' "$source" ;;
		*) printf '%s\0' "$PWD: $source" ;;
		esac
	done
}

# location: the target's name, whatever the working directory is, in $where.
location() {
	case $repo in
	ssh://* | /*) where=$repo ;;
	*) where=$PWD/$repo ;;
	esac
}

# memory: the file with the snapshots that the target has taken, in $memory.
memory() {
	location
	memory=$job/at-$(printf %s "$where" | sha256sum | cut -c 1-32)
}

# remember N ID: the Nth target has taken a snapshot.
remember() {
	echo "$2" >>"$work/has.$1"
	[ -n "$job" ] || return 0
	target "$1"
	memory
	append "$memory" "$2"
	append "$job/order" "$2"
}

# listed FILE: the ids in a list, none if there is no such list. What a power cut or a bad
# disk has made of the rest is left out.
listed() {
	[ ! -r "$1" ] || ids <"$1"
}

# append FILE ID: put an id at the end of a list, or move it there. If that cannot be
# done, the next run knows less.
append() {
	(
		umask 077
		listed "$1" | { grep -v -x "$2" || :; } | tail -n "$((remembered - 1))" >"$1.$$" && echo "$2" >>"$1.$$" || exit
		# Else a power cut may leave the new name with nothing in it. Where sync takes no
		# file, it does more than is needed, or nothing.
		sync "$1.$$" || :
		mv -f -- "$1.$$" "$1"
	) 2>/dev/null || rm -f -- "$1.$$"
}

# cached: the ids of all caches, the newest last. Those that are in no list are of runs
# that were killed: newer than the others.
cached() {
	[ -n "$job" ] || return 0
	(cd -- "$job" && ls -rt) | ids >"$work/files"
	listed "$job/order" >"$work/order"
	grep -x -F -f "$work/files" "$work/order" || :
	grep -v -x -F -f "$work/order" "$work/files" || :
}

# look N: ask the Nth target which of the snapshots it has that are cached or
# remembered; they go to $work/has.N. If it cannot be used, or is not what it was in the
# last run, say so and return 1. What is remembered is read once, to $work/took.N:
# another run of the job may add to it before the answer comes.
look() {
	: >"$work/has.$1"
	[ -n "$job" ] || return 0
	target "$1"
	memory
	listed "$memory" >"$work/took.$1"
	if [ -s "$memory" ] && [ ! -s "$work/took.$1" ]; then
		say "$memory is damaged: whether $repo is the repository of the last run is not known"
	fi
	{
		cached
		cat "$work/took.$1"
	} | sort -u >"$work/asked"
	[ -s "$work/asked" ] || return 0
	status=0
	ask "$work/answer" --has "$(paste -s -d , "$work/asked")" || status=$?
	if [ "$status" -eq 1 ] && refused; then
		# It takes snapshots and says nothing: pv-put will notice.
		cp "$work/took.$1" "$work/has.$1"
		return 0
	fi
	if [ "$status" -eq 1 ] && absent; then
		: >"$work/answer"
	else
		cat "$work/said" >&2
		case $status in 0 | 3) ;; *) return 1 ;; esac
	fi
	ids <"$work/answer" >"$work/has.$1"
	same "$1"
}

# same N: whether a target is the repository of the last run.
same() {
	[ -s "$work/took.$1" ] || return 0
	if ! grep -q -x -F -f "$work/took.$1" "$work/has.$1"; then
		say "$repo: not the repository of the last run: none of its snapshots is there. Not mounted?"
		say "hint: if it is to begin anew, remove $job"
		return 1
	fi
	newest=$(tail -n 1 "$work/took.$1")
	grep -q -x "$newest" "$work/has.$1" ||
		say "$repo: snapshot $newest of the last run is gone, and an older one is there: somebody removed it, or this is an old state of the repository"
}

# choose N…: what the run of these targets can rest on, in $base: the newest snapshot
# that all of them have, or else that the first has which has any; and the last
# checkpoint of a run that did not succeed. Without a snapshot it is two checkpoints,
# since those of one run are equally old. $set is the targets that have it, $rest the
# others.
choose() {
	cached | sed -n '1!G;h;$p' >"$work/caches"
	base=$(newest .ids 1 "$@")
	for n; do
		[ -n "$base" ] || base=$(newest .ids 1 "$n")
	done
	set='' rest=''
	for n; do
		if [ -z "$base" ] || grep -q -x "$base" "$work/has.$n"; then
			set="$set $n"
		else
			rest="$rest $n"
		fi
	done
	set=${set# }
	if [ -n "$broken" ]; then
		# shellcheck disable=SC2086
		checkpoint=$(newest '' "$((2 - ${#base} / 64))" $set)
		base=$base${checkpoint:+${base:+,}$checkpoint}
	fi
}

# newest SUFFIX COUNT N…: the newest of $work/caches that all these targets have, at most
# COUNT, with commas: of whole snapshots, or if SUFFIX is empty of those since.
newest() {
	suffix=$1 more=$2 found=''
	shift 2
	while [ "$more" -gt 0 ] && read -r id; do
		if [ -n "$suffix" ]; then
			[ -e "$job/$id$suffix" ] || continue
		else
			[ ! -e "$job/$id.ids" ] || break
		fi
		for n; do
			grep -q -x "$id" "$work/has.$n" || continue 2
		done
		found=$id${found:+,}$found more=$((more - 1))
	done <"$work/caches"
	printf %s "$found"
}

# begin_run: mark that a run is under way. $broken says whether one before has not
# succeeded.
begin_run() {
	broken=''
	[ -n "$job" ] || return 0
	for mark in "$job"/run-*; do
		[ ! -e "$mark" ] || kill -0 "${mark##*-}" 2>/dev/null || broken=yes
	done
	(: >"$job/run-$$") 2>/dev/null || :
}

# end_run: this run has succeeded, and with it those before.
end_run() {
	[ -n "$job" ] || return 0
	for mark in "$job"/run-*; do
		pid=${mark##*-}
		if [ "$pid" = $$ ] || ! kill -0 "$pid" 2>/dev/null; then rm -f -- "$mark"; fi
	done
}

# restores FILE MASTER: whether a wrapped key says, in the lines for people above BEGIN,
# that it is one of this master's with which a backup can be restored. It is a hint:
# nothing vouches for these lines.
restores() {
	sed '/^-----BEGIN /,$d' "$1" >"$work/lines"
	grep -q '^Preserve \(master\|read\) key, wrapped in a passphrase$' "$work/lines" &&
		grep -q -x -F -e "key id  $2" "$work/lines"
}

# remind N…: tell the user, once a day, if no copy of the key is known that would be left
# if this machine were lost.
remind() {
	[ -n "$job" ] && [ "$talk" != -q ] || return 0
	[ -z "$(find "$job/reminded" -mtime -1 2>/dev/null)" ] || return 0
	(: >"$job/reminded") 2>/dev/null || return 0
	master=$(pv-key show "$key" 2>/dev/null | sed -n 's/^key id: //p')
	noted=${XDG_CONFIG_HOME:-${HOME:-}/.config}/preserve/recovery-noted
	if [ -z "$master" ] || grep -q -s -x -F -e "$master" "$noted"; then return; fi
	for n; do
		target "$n"
		ask "$work/answer" --keys || continue
		grep -x '[A-Za-z0-9_-][A-Za-z0-9._-]\{0,63\}' "$work/answer" >"$work/names" || :
		while read -r wrapped <&5; do
			if ask "$work/answer" --key "$wrapped" && restores "$work/answer" "$master"; then return; fi
		done 5<"$work/names"
	done
	say "no copy of key $master is known that would survive this machine: see pv-key -h, wrap and paper; if there is one, echo $master >>$(quote "$noted")"
}
