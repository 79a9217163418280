// A module of its own, for what it changes may not build in between.
module fusillade/tools/modulepath

go 1.26.0
