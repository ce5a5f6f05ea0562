# Makes a manual page for man(1) from a page of this directory:
#
#     awk -f roff.awk -v name=pv-put -v version=1.0 pv-put.md
#
# It knows what these pages use: headings, paragraphs, indented blocks, lists, tables, `code`,
# **strong**, *emphasis* and links.

function escape(s) {
	gsub(/\\/, "\\e", s)
	gsub(/-/, "\\-", s)
	return s
}

# paint sets what stands between two marks in a font.
function paint(s, mark, font,   out, at, end) {
	while ((at = index(s, mark)) && (end = index(substr(s, at + length(mark)), mark)) > 1) {
		out = out substr(s, 1, at - 1) "\\f" font substr(s, at + length(mark), end - 1) "\\fR"
		s = substr(s, at + 2 * length(mark) + end - 1)
	}
	return out s
}

# inline is a line of text; code is left as it is.
function inline(s,   out, n, i, part) {
	n = split(s, part, "`")
	for (i = 1; i <= n; i++) {
		if (i % 2 == 0) {
			out = out "\\fB" escape(part[i]) "\\fR"
			continue
		}
		while (match(part[i], /\[[^]]*\]\([^)]*\)/)) {
			link = substr(part[i], RSTART, RLENGTH)
			sub(/^\[/, "", link)
			sub(/\]\(.*/, "", link)
			part[i] = substr(part[i], 1, RSTART - 1) link substr(part[i], RSTART + RLENGTH)
		}
		out = out paint(paint(escape(part[i]), "**", "B"), "*", "I")
	}
	sub(/^[.']/, "\\\\\\&&", out)
	return out
}

function leave() {
	if (block) print ".EE\n.RE"
	block = 0
}

# row is a row of a table: the first cell names what the others say.
function row(s,   n, cell, i) {
	gsub(/\\\|/, "\001", s)
	n = split(s, cell, /[ \t]*\|[ \t]*/)
	for (i = 2; i < n; i++) gsub(/\001/, "|", cell[i])
	if (!rows++) {
		for (i = 2; i < n; i++) head[i] = cell[i]
		return
	}
	if (cell[2] ~ /^:?-+:?$/) return
	print ".TP\n" inline(cell[2])
	print inline(cell[3])
	for (i = 4; i < n; i++) if (cell[i] != "") print ".br\n" inline(head[i] ": " cell[i])
}

{ blank = !NF }
/^\|/ { leave(); row($0); text = 0; next }
{ rows = 0 }
/^# / {
	printf ".TH \"%s\" 1 \"\" \"Preserve %s\" \"Preserve\"\n.SH NAME\n%s \\- ", toupper(name), version, escape(name)
	first = 1
	next
}
/^## / { leave(); print ".SH " toupper(inline(substr($0, 4))); text = 0; next }
/^### / { leave(); print ".SS " inline(substr($0, 5)); text = 0; next }
blank { gap = 1; text = 0; if (first == 2) { print ".SH DESCRIPTION"; first = 3 } ; next }
/^(    |\t)/ && !text && !listed || block && /^(    |\t)/ {
	if (!block) print ".PP\n.RS 4\n.EX"
	else if (gap) print ""
	block = 1
	gap = 0
	line = escape(substr($0, /^\t/ ? 2 : 5))
	sub(/^[.']/, "\\\\\\&&", line)
	print line
	next
}
{ leave() }
first == 1 { print inline($0); first = 2; text = 1; gap = 0; next }
/^([*-]|[0-9]+\.) / {
	mark = /^[0-9]/ ? $1 : "\\(bu"
	sub(/^([*-]|[0-9]+\.) +/, "")
	print ".IP " mark " 3\n" inline($0)
	text = listed = 1
	gap = 0
	next
}
{
	if (gap && !/^ /) { print ".PP"; listed = 0 }
	else if (gap) print ".IP"
	gap = 0
	text = 1
	sub(/^ +/, "")
	print inline($0)
}
END { leave() }
