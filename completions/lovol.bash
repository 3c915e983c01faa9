# Completion of lovol for bash: lovol itself knows what fits.

eval "$(LOVOL_COMPLETE=bash command lovol 2>/dev/null)"

_lovol() {
    declare -F _clap_complete_lovol >/dev/null || return

    # bash ends a word at '@' and ':', and takes what follows for the name of a host.  In the line
    # such parts stand together, and here they are put together again, up to the cursor.
    local words=() part rest=${COMP_LINE:0:COMP_POINT} blanks i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        blanks=${rest%%[![:blank:]]*}
        rest=${rest#"$blanks"}
        part=${COMP_WORDS[i]}
        ((i < COMP_CWORD)) || part=$rest
        rest=${rest#"$part"}
        if [[ -n $blanks || $i -eq 0 ]]; then
            words+=("$part")
        else
            words[-1]+=$part
        fi
    done

    # What is quoted in the line is not in the name.  And no name is a pattern.
    local COMP_WORDS=("${words[@]//\\/}") COMP_CWORD=$((${#words[@]} - 1)) -
    set -f
    _clap_complete_lovol lovol "${COMP_WORDS[-1]}" ''

    # Options are offered to who asks for them, or where there is nothing else.
    if [[ -z ${words[-1]} ]]; then
        local offered=() word
        for word in "${COMPREPLY[@]}"; do
            [[ $word == -* ]] || offered+=("$word")
        done
        ((${#offered[@]} == 0)) || COMPREPLY=("${offered[@]}")
    fi

    # A name or a key goes on behind these.
    [[ ${COMPREPLY[*]} != *[@=] ]] || compopt -o nospace 2>/dev/null

    # Somebody's directory may be called '$(...)': bash quotes what it knows to be files.
    # It says by itself which are directories.
    if [[ ${COMPREPLY[*]} == */* ]] && compopt -o filenames 2>/dev/null; then
        COMPREPLY=("${COMPREPLY[@]%/}")
    fi
    # bash replaces the last part alone.
    COMPREPLY=("${COMPREPLY[@]#"${words[-1]%"$2"}"}")
}

# Without bashdefault, which offers hosts after '@'.
complete -o nospace -o nosort -F _lovol lovol 2>/dev/null || complete -o nospace -F _lovol lovol
