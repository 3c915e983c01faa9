# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_lovol_global_optspecs
    string join \n pool= wait= J/json n/dry-run y/yes q/quiet v/verbose color= h/help V/version
end

function __fish_lovol_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_lovol_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_lovol_using_subcommand
    set -l cmd (__fish_lovol_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c lovol -n "__fish_lovol_needs_command" -l pool -d 'Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]' -r -F
complete -c lovol -n "__fish_lovol_needs_command" -l wait -d 'Wait so long for what another process has locked or frozen' -r
complete -c lovol -n "__fish_lovol_needs_command" -l color -d 'Use colours' -r -f -a "auto\t'On a terminal, unless `$NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c lovol -n "__fish_lovol_needs_command" -s J -l json -d 'Print the result as JSON'
complete -c lovol -n "__fish_lovol_needs_command" -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c lovol -n "__fish_lovol_needs_command" -s y -l yes -d 'Answer questions with yes'
complete -c lovol -n "__fish_lovol_needs_command" -s q -l quiet -d 'Print nothing but errors and warnings'
complete -c lovol -n "__fish_lovol_needs_command" -s v -l verbose -d 'Show each step on stderr'
complete -c lovol -n "__fish_lovol_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lovol -n "__fish_lovol_needs_command" -s V -l version -d 'Print version'
complete -c lovol -n "__fish_lovol_needs_command" -f -a "init" -d 'Make a pool in DIR, a directory on a filesystem with reflinks'
complete -c lovol -n "__fish_lovol_needs_command" -f -a "create" -d 'Make a volume: a sparse image of SIZE with a filesystem in it'
complete -c lovol -n "__fish_lovol_needs_command" -f -a "attach" -d 'Bind a volume or snapshot to a loop device, and print the device'
complete -c lovol -n "__fish_lovol_needs_command" -f -a "detach" -d 'Free the loop device of a volume or snapshot, and wait until it is free'
complete -c lovol -n "__fish_lovol_needs_command" -f -a "mount" -d 'Mount a volume on DIR, or view a snapshot there'
complete -c lovol -n "__fish_lovol_needs_command" -f -a "umount" -d 'Unmount a volume or the view of a snapshot'
complete -c lovol -n "__fish_lovol_needs_command" -f -a "unmount" -d 'Unmount a volume or the view of a snapshot'
complete -c lovol -n "__fish_lovol_needs_command" -f -a "snapshot" -d 'Take a snapshot of a volume, mounted or not, and print its name'
complete -c lovol -n "__fish_lovol_needs_command" -f -a "clone" -d 'Make a writable copy of a volume or snapshot, which depends on nothing'
complete -c lovol -n "__fish_lovol_needs_command" -f -a "list" -d 'List volumes, and with -a their snapshots'
complete -c lovol -n "__fish_lovol_needs_command" -f -a "ls" -d 'List volumes, and with -a their snapshots'
complete -c lovol -n "__fish_lovol_needs_command" -f -a "show" -d 'Show all that is known of a volume or snapshot'
complete -c lovol -n "__fish_lovol_needs_command" -f -a "rename" -d 'Give a volume or snapshot another name'
complete -c lovol -n "__fish_lovol_needs_command" -f -a "delete" -d 'Delete snapshots for good, or move volumes to the trash'
complete -c lovol -n "__fish_lovol_needs_command" -f -a "undelete" -d 'Bring a deleted volume back from the trash, with all its snapshots'
complete -c lovol -n "__fish_lovol_needs_command" -f -a "purge" -d 'Remove deleted volumes for good, with their snapshots'
complete -c lovol -n "__fish_lovol_needs_command" -f -a "check" -d 'Check the pool: index, images, their records and the kernel\'s state against each other'
complete -c lovol -n "__fish_lovol_using_subcommand init" -l loop -d 'Put the pool on an XFS image of this size, or grow that image by +SIZE' -r
complete -c lovol -n "__fish_lovol_using_subcommand init" -l pool -d 'Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]' -r -F
complete -c lovol -n "__fish_lovol_using_subcommand init" -l wait -d 'Wait so long for what another process has locked or frozen' -r
complete -c lovol -n "__fish_lovol_using_subcommand init" -l color -d 'Use colours' -r -f -a "auto\t'On a terminal, unless `$NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c lovol -n "__fish_lovol_using_subcommand init" -l sparse -d 'Do not allocate the image\'s space now'
complete -c lovol -n "__fish_lovol_using_subcommand init" -s J -l json -d 'Print the result as JSON'
complete -c lovol -n "__fish_lovol_using_subcommand init" -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c lovol -n "__fish_lovol_using_subcommand init" -s y -l yes -d 'Answer questions with yes'
complete -c lovol -n "__fish_lovol_using_subcommand init" -s q -l quiet -d 'Print nothing but errors and warnings'
complete -c lovol -n "__fish_lovol_using_subcommand init" -s v -l verbose -d 'Show each step on stderr'
complete -c lovol -n "__fish_lovol_using_subcommand init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lovol -n "__fish_lovol_using_subcommand create" -l fs -d 'The filesystem to make in it' -r -f -a "xfs\t''
ext4\t''
btrfs\t''
none\t''"
complete -c lovol -n "__fish_lovol_using_subcommand create" -l label -d 'The filesystem\'s label' -r
complete -c lovol -n "__fish_lovol_using_subcommand create" -l mkfs-options -d 'More options for mkfs, separated by blanks' -r
complete -c lovol -n "__fish_lovol_using_subcommand create" -l from -d 'Take this image in' -r -F
complete -c lovol -n "__fish_lovol_using_subcommand create" -l pool -d 'Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]' -r -F
complete -c lovol -n "__fish_lovol_using_subcommand create" -l wait -d 'Wait so long for what another process has locked or frozen' -r
complete -c lovol -n "__fish_lovol_using_subcommand create" -l color -d 'Use colours' -r -f -a "auto\t'On a terminal, unless `$NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c lovol -n "__fish_lovol_using_subcommand create" -l move -d 'Move the image into the pool'
complete -c lovol -n "__fish_lovol_using_subcommand create" -l crash -d 'Take an image in use without freezing it, as after a pulled plug'
complete -c lovol -n "__fish_lovol_using_subcommand create" -s J -l json -d 'Print the result as JSON'
complete -c lovol -n "__fish_lovol_using_subcommand create" -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c lovol -n "__fish_lovol_using_subcommand create" -s y -l yes -d 'Answer questions with yes'
complete -c lovol -n "__fish_lovol_using_subcommand create" -s q -l quiet -d 'Print nothing but errors and warnings'
complete -c lovol -n "__fish_lovol_using_subcommand create" -s v -l verbose -d 'Show each step on stderr'
complete -c lovol -n "__fish_lovol_using_subcommand create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lovol -n "__fish_lovol_using_subcommand attach" -l pool -d 'Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]' -r -F
complete -c lovol -n "__fish_lovol_using_subcommand attach" -l wait -d 'Wait so long for what another process has locked or frozen' -r
complete -c lovol -n "__fish_lovol_using_subcommand attach" -l color -d 'Use colours' -r -f -a "auto\t'On a terminal, unless `$NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c lovol -n "__fish_lovol_using_subcommand attach" -s J -l json -d 'Print the result as JSON'
complete -c lovol -n "__fish_lovol_using_subcommand attach" -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c lovol -n "__fish_lovol_using_subcommand attach" -s y -l yes -d 'Answer questions with yes'
complete -c lovol -n "__fish_lovol_using_subcommand attach" -s q -l quiet -d 'Print nothing but errors and warnings'
complete -c lovol -n "__fish_lovol_using_subcommand attach" -s v -l verbose -d 'Show each step on stderr'
complete -c lovol -n "__fish_lovol_using_subcommand attach" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lovol -n "__fish_lovol_using_subcommand detach" -l pool -d 'Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]' -r -F
complete -c lovol -n "__fish_lovol_using_subcommand detach" -l wait -d 'Wait so long for what another process has locked or frozen' -r
complete -c lovol -n "__fish_lovol_using_subcommand detach" -l color -d 'Use colours' -r -f -a "auto\t'On a terminal, unless `$NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c lovol -n "__fish_lovol_using_subcommand detach" -s J -l json -d 'Print the result as JSON'
complete -c lovol -n "__fish_lovol_using_subcommand detach" -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c lovol -n "__fish_lovol_using_subcommand detach" -s y -l yes -d 'Answer questions with yes'
complete -c lovol -n "__fish_lovol_using_subcommand detach" -s q -l quiet -d 'Print nothing but errors and warnings'
complete -c lovol -n "__fish_lovol_using_subcommand detach" -s v -l verbose -d 'Show each step on stderr'
complete -c lovol -n "__fish_lovol_using_subcommand detach" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lovol -n "__fish_lovol_using_subcommand mount" -s o -l options -d 'Mount options, separated by commas, as for mount(8)' -r
complete -c lovol -n "__fish_lovol_using_subcommand mount" -l pool -d 'Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]' -r -F
complete -c lovol -n "__fish_lovol_using_subcommand mount" -l wait -d 'Wait so long for what another process has locked or frozen' -r
complete -c lovol -n "__fish_lovol_using_subcommand mount" -l color -d 'Use colours' -r -f -a "auto\t'On a terminal, unless `$NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c lovol -n "__fish_lovol_using_subcommand mount" -s J -l json -d 'Print the result as JSON'
complete -c lovol -n "__fish_lovol_using_subcommand mount" -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c lovol -n "__fish_lovol_using_subcommand mount" -s y -l yes -d 'Answer questions with yes'
complete -c lovol -n "__fish_lovol_using_subcommand mount" -s q -l quiet -d 'Print nothing but errors and warnings'
complete -c lovol -n "__fish_lovol_using_subcommand mount" -s v -l verbose -d 'Show each step on stderr'
complete -c lovol -n "__fish_lovol_using_subcommand mount" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lovol -n "__fish_lovol_using_subcommand umount" -l pool -d 'Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]' -r -F
complete -c lovol -n "__fish_lovol_using_subcommand umount" -l wait -d 'Wait so long for what another process has locked or frozen' -r
complete -c lovol -n "__fish_lovol_using_subcommand umount" -l color -d 'Use colours' -r -f -a "auto\t'On a terminal, unless `$NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c lovol -n "__fish_lovol_using_subcommand umount" -s J -l json -d 'Print the result as JSON'
complete -c lovol -n "__fish_lovol_using_subcommand umount" -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c lovol -n "__fish_lovol_using_subcommand umount" -s y -l yes -d 'Answer questions with yes'
complete -c lovol -n "__fish_lovol_using_subcommand umount" -s q -l quiet -d 'Print nothing but errors and warnings'
complete -c lovol -n "__fish_lovol_using_subcommand umount" -s v -l verbose -d 'Show each step on stderr'
complete -c lovol -n "__fish_lovol_using_subcommand umount" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lovol -n "__fish_lovol_using_subcommand unmount" -l pool -d 'Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]' -r -F
complete -c lovol -n "__fish_lovol_using_subcommand unmount" -l wait -d 'Wait so long for what another process has locked or frozen' -r
complete -c lovol -n "__fish_lovol_using_subcommand unmount" -l color -d 'Use colours' -r -f -a "auto\t'On a terminal, unless `$NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c lovol -n "__fish_lovol_using_subcommand unmount" -s J -l json -d 'Print the result as JSON'
complete -c lovol -n "__fish_lovol_using_subcommand unmount" -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c lovol -n "__fish_lovol_using_subcommand unmount" -s y -l yes -d 'Answer questions with yes'
complete -c lovol -n "__fish_lovol_using_subcommand unmount" -s q -l quiet -d 'Print nothing but errors and warnings'
complete -c lovol -n "__fish_lovol_using_subcommand unmount" -s v -l verbose -d 'Show each step on stderr'
complete -c lovol -n "__fish_lovol_using_subcommand unmount" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lovol -n "__fish_lovol_using_subcommand snapshot" -l max-freeze -d 'Freeze for so long at most' -r
complete -c lovol -n "__fish_lovol_using_subcommand snapshot" -l if-late -d 'What to do when freezing would take longer than that' -r -f -a "fail\t'Thaw, and take no snapshot'
crash\t'Thaw, and take it unfrozen'"
complete -c lovol -n "__fish_lovol_using_subcommand snapshot" -l pool -d 'Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]' -r -F
complete -c lovol -n "__fish_lovol_using_subcommand snapshot" -l wait -d 'Wait so long for what another process has locked or frozen' -r
complete -c lovol -n "__fish_lovol_using_subcommand snapshot" -l color -d 'Use colours' -r -f -a "auto\t'On a terminal, unless `$NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c lovol -n "__fish_lovol_using_subcommand snapshot" -l crash -d 'Do not freeze: take it as after a pulled plug'
complete -c lovol -n "__fish_lovol_using_subcommand snapshot" -s J -l json -d 'Print the result as JSON'
complete -c lovol -n "__fish_lovol_using_subcommand snapshot" -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c lovol -n "__fish_lovol_using_subcommand snapshot" -s y -l yes -d 'Answer questions with yes'
complete -c lovol -n "__fish_lovol_using_subcommand snapshot" -s q -l quiet -d 'Print nothing but errors and warnings'
complete -c lovol -n "__fish_lovol_using_subcommand snapshot" -s v -l verbose -d 'Show each step on stderr'
complete -c lovol -n "__fish_lovol_using_subcommand snapshot" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lovol -n "__fish_lovol_using_subcommand clone" -l pool -d 'Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]' -r -F
complete -c lovol -n "__fish_lovol_using_subcommand clone" -l wait -d 'Wait so long for what another process has locked or frozen' -r
complete -c lovol -n "__fish_lovol_using_subcommand clone" -l color -d 'Use colours' -r -f -a "auto\t'On a terminal, unless `$NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c lovol -n "__fish_lovol_using_subcommand clone" -l keep-uuid -d 'Keep the filesystem\'s UUID, as is the rule from path to path'
complete -c lovol -n "__fish_lovol_using_subcommand clone" -l new-uuid -d 'Give the filesystem a new UUID, as is the rule for volumes'
complete -c lovol -n "__fish_lovol_using_subcommand clone" -s f -l force -d 'Replace DEST by an atomic exchange; a replaced volume goes to the trash'
complete -c lovol -n "__fish_lovol_using_subcommand clone" -l crash -d 'Take a source in use without freezing it, as after a pulled plug'
complete -c lovol -n "__fish_lovol_using_subcommand clone" -s J -l json -d 'Print the result as JSON'
complete -c lovol -n "__fish_lovol_using_subcommand clone" -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c lovol -n "__fish_lovol_using_subcommand clone" -s y -l yes -d 'Answer questions with yes'
complete -c lovol -n "__fish_lovol_using_subcommand clone" -s q -l quiet -d 'Print nothing but errors and warnings'
complete -c lovol -n "__fish_lovol_using_subcommand clone" -s v -l verbose -d 'Show each step on stderr'
complete -c lovol -n "__fish_lovol_using_subcommand clone" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lovol -n "__fish_lovol_using_subcommand list" -s o -l columns -d 'These columns' -r -f -a "name\t''
size\t''
used\t''
snaps\t''
fs\t''
mounted-on\t''
created\t''
consistency\t''
device\t''
state\t''
label\t''
uuid\t''
fs-uuid\t''
extents\t''
frozen-ms\t''
image\t''
deleted\t''"
complete -c lovol -n "__fish_lovol_using_subcommand list" -l pool -d 'Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]' -r -F
complete -c lovol -n "__fish_lovol_using_subcommand list" -l wait -d 'Wait so long for what another process has locked or frozen' -r
complete -c lovol -n "__fish_lovol_using_subcommand list" -l color -d 'Use colours' -r -f -a "auto\t'On a terminal, unless `$NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c lovol -n "__fish_lovol_using_subcommand list" -s a -l all -d 'Snapshots as well'
complete -c lovol -n "__fish_lovol_using_subcommand list" -l tree -d 'Snapshots as well, as a tree'
complete -c lovol -n "__fish_lovol_using_subcommand list" -l trash -d 'Deleted volumes instead'
complete -c lovol -n "__fish_lovol_using_subcommand list" -s b -l bytes -d 'Sizes in bytes'
complete -c lovol -n "__fish_lovol_using_subcommand list" -l raw -d 'Columns separated by one blank, empty ones as -'
complete -c lovol -n "__fish_lovol_using_subcommand list" -l no-header -d 'No line with the columns\' names'
complete -c lovol -n "__fish_lovol_using_subcommand list" -s J -l json -d 'Print the result as JSON'
complete -c lovol -n "__fish_lovol_using_subcommand list" -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c lovol -n "__fish_lovol_using_subcommand list" -s y -l yes -d 'Answer questions with yes'
complete -c lovol -n "__fish_lovol_using_subcommand list" -s q -l quiet -d 'Print nothing but errors and warnings'
complete -c lovol -n "__fish_lovol_using_subcommand list" -s v -l verbose -d 'Show each step on stderr'
complete -c lovol -n "__fish_lovol_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lovol -n "__fish_lovol_using_subcommand ls" -s o -l columns -d 'These columns' -r -f -a "name\t''
size\t''
used\t''
snaps\t''
fs\t''
mounted-on\t''
created\t''
consistency\t''
device\t''
state\t''
label\t''
uuid\t''
fs-uuid\t''
extents\t''
frozen-ms\t''
image\t''
deleted\t''"
complete -c lovol -n "__fish_lovol_using_subcommand ls" -l pool -d 'Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]' -r -F
complete -c lovol -n "__fish_lovol_using_subcommand ls" -l wait -d 'Wait so long for what another process has locked or frozen' -r
complete -c lovol -n "__fish_lovol_using_subcommand ls" -l color -d 'Use colours' -r -f -a "auto\t'On a terminal, unless `$NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c lovol -n "__fish_lovol_using_subcommand ls" -s a -l all -d 'Snapshots as well'
complete -c lovol -n "__fish_lovol_using_subcommand ls" -l tree -d 'Snapshots as well, as a tree'
complete -c lovol -n "__fish_lovol_using_subcommand ls" -l trash -d 'Deleted volumes instead'
complete -c lovol -n "__fish_lovol_using_subcommand ls" -s b -l bytes -d 'Sizes in bytes'
complete -c lovol -n "__fish_lovol_using_subcommand ls" -l raw -d 'Columns separated by one blank, empty ones as -'
complete -c lovol -n "__fish_lovol_using_subcommand ls" -l no-header -d 'No line with the columns\' names'
complete -c lovol -n "__fish_lovol_using_subcommand ls" -s J -l json -d 'Print the result as JSON'
complete -c lovol -n "__fish_lovol_using_subcommand ls" -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c lovol -n "__fish_lovol_using_subcommand ls" -s y -l yes -d 'Answer questions with yes'
complete -c lovol -n "__fish_lovol_using_subcommand ls" -s q -l quiet -d 'Print nothing but errors and warnings'
complete -c lovol -n "__fish_lovol_using_subcommand ls" -s v -l verbose -d 'Show each step on stderr'
complete -c lovol -n "__fish_lovol_using_subcommand ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lovol -n "__fish_lovol_using_subcommand show" -l pool -d 'Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]' -r -F
complete -c lovol -n "__fish_lovol_using_subcommand show" -l wait -d 'Wait so long for what another process has locked or frozen' -r
complete -c lovol -n "__fish_lovol_using_subcommand show" -l color -d 'Use colours' -r -f -a "auto\t'On a terminal, unless `$NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c lovol -n "__fish_lovol_using_subcommand show" -s J -l json -d 'Print the result as JSON'
complete -c lovol -n "__fish_lovol_using_subcommand show" -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c lovol -n "__fish_lovol_using_subcommand show" -s y -l yes -d 'Answer questions with yes'
complete -c lovol -n "__fish_lovol_using_subcommand show" -s q -l quiet -d 'Print nothing but errors and warnings'
complete -c lovol -n "__fish_lovol_using_subcommand show" -s v -l verbose -d 'Show each step on stderr'
complete -c lovol -n "__fish_lovol_using_subcommand show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lovol -n "__fish_lovol_using_subcommand rename" -l pool -d 'Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]' -r -F
complete -c lovol -n "__fish_lovol_using_subcommand rename" -l wait -d 'Wait so long for what another process has locked or frozen' -r
complete -c lovol -n "__fish_lovol_using_subcommand rename" -l color -d 'Use colours' -r -f -a "auto\t'On a terminal, unless `$NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c lovol -n "__fish_lovol_using_subcommand rename" -s J -l json -d 'Print the result as JSON'
complete -c lovol -n "__fish_lovol_using_subcommand rename" -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c lovol -n "__fish_lovol_using_subcommand rename" -s y -l yes -d 'Answer questions with yes'
complete -c lovol -n "__fish_lovol_using_subcommand rename" -s q -l quiet -d 'Print nothing but errors and warnings'
complete -c lovol -n "__fish_lovol_using_subcommand rename" -s v -l verbose -d 'Show each step on stderr'
complete -c lovol -n "__fish_lovol_using_subcommand rename" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lovol -n "__fish_lovol_using_subcommand delete" -l pool -d 'Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]' -r -F
complete -c lovol -n "__fish_lovol_using_subcommand delete" -l wait -d 'Wait so long for what another process has locked or frozen' -r
complete -c lovol -n "__fish_lovol_using_subcommand delete" -l color -d 'Use colours' -r -f -a "auto\t'On a terminal, unless `$NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c lovol -n "__fish_lovol_using_subcommand delete" -s r -l recursive -d 'Delete a volume with its snapshots'
complete -c lovol -n "__fish_lovol_using_subcommand delete" -l now -d 'Do not keep volumes in the trash; asks'
complete -c lovol -n "__fish_lovol_using_subcommand delete" -s J -l json -d 'Print the result as JSON'
complete -c lovol -n "__fish_lovol_using_subcommand delete" -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c lovol -n "__fish_lovol_using_subcommand delete" -s y -l yes -d 'Answer questions with yes'
complete -c lovol -n "__fish_lovol_using_subcommand delete" -s q -l quiet -d 'Print nothing but errors and warnings'
complete -c lovol -n "__fish_lovol_using_subcommand delete" -s v -l verbose -d 'Show each step on stderr'
complete -c lovol -n "__fish_lovol_using_subcommand delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lovol -n "__fish_lovol_using_subcommand undelete" -l as -d 'Bring it back under this name' -r
complete -c lovol -n "__fish_lovol_using_subcommand undelete" -l pool -d 'Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]' -r -F
complete -c lovol -n "__fish_lovol_using_subcommand undelete" -l wait -d 'Wait so long for what another process has locked or frozen' -r
complete -c lovol -n "__fish_lovol_using_subcommand undelete" -l color -d 'Use colours' -r -f -a "auto\t'On a terminal, unless `$NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c lovol -n "__fish_lovol_using_subcommand undelete" -s J -l json -d 'Print the result as JSON'
complete -c lovol -n "__fish_lovol_using_subcommand undelete" -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c lovol -n "__fish_lovol_using_subcommand undelete" -s y -l yes -d 'Answer questions with yes'
complete -c lovol -n "__fish_lovol_using_subcommand undelete" -s q -l quiet -d 'Print nothing but errors and warnings'
complete -c lovol -n "__fish_lovol_using_subcommand undelete" -s v -l verbose -d 'Show each step on stderr'
complete -c lovol -n "__fish_lovol_using_subcommand undelete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lovol -n "__fish_lovol_using_subcommand purge" -l pool -d 'Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]' -r -F
complete -c lovol -n "__fish_lovol_using_subcommand purge" -l wait -d 'Wait so long for what another process has locked or frozen' -r
complete -c lovol -n "__fish_lovol_using_subcommand purge" -l color -d 'Use colours' -r -f -a "auto\t'On a terminal, unless `$NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c lovol -n "__fish_lovol_using_subcommand purge" -l all -d 'Purge the whole trash'
complete -c lovol -n "__fish_lovol_using_subcommand purge" -s J -l json -d 'Print the result as JSON'
complete -c lovol -n "__fish_lovol_using_subcommand purge" -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c lovol -n "__fish_lovol_using_subcommand purge" -s y -l yes -d 'Answer questions with yes'
complete -c lovol -n "__fish_lovol_using_subcommand purge" -s q -l quiet -d 'Print nothing but errors and warnings'
complete -c lovol -n "__fish_lovol_using_subcommand purge" -s v -l verbose -d 'Show each step on stderr'
complete -c lovol -n "__fish_lovol_using_subcommand purge" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lovol -n "__fish_lovol_using_subcommand check" -l pool -d 'Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]' -r -F
complete -c lovol -n "__fish_lovol_using_subcommand check" -l wait -d 'Wait so long for what another process has locked or frozen' -r
complete -c lovol -n "__fish_lovol_using_subcommand check" -l color -d 'Use colours' -r -f -a "auto\t'On a terminal, unless `$NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c lovol -n "__fish_lovol_using_subcommand check" -l repair -d 'Mend what can be mended without touching an image'
complete -c lovol -n "__fish_lovol_using_subcommand check" -s J -l json -d 'Print the result as JSON'
complete -c lovol -n "__fish_lovol_using_subcommand check" -s n -l dry-run -d 'Show what would be done, and do nothing'
complete -c lovol -n "__fish_lovol_using_subcommand check" -s y -l yes -d 'Answer questions with yes'
complete -c lovol -n "__fish_lovol_using_subcommand check" -s q -l quiet -d 'Print nothing but errors and warnings'
complete -c lovol -n "__fish_lovol_using_subcommand check" -s v -l verbose -d 'Show each step on stderr'
complete -c lovol -n "__fish_lovol_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
