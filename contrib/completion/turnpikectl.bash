# bash completion for turnpikectl(8).  The commands come from the program itself.
_turnpikectl() {
	local cur=${COMP_WORDS[COMP_CWORD]} word command=
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		case $word in -*) ;; *) command=$word; break ;; esac
	done
	case $command in
	"") COMPREPLY=($(compgen -W "--json --runtime-dir --help --version $(turnpikectl help 2>/dev/null | sed -n 's/^  \([a-z][a-z-]*\).*/\1/p')" -- "$cur")) ;;
	sessions) COMPREPLY=($(compgen -W "user= client= limit=" -- "$cur")) ;;
	close) COMPREPLY=($(compgen -W "user=" -- "$cur")) ;;
	users) COMPREPLY=($(compgen -W "limit=" -- "$cur")) ;;
	counters) COMPREPLY=($(compgen -W "all" -- "$cur")) ;;
	drain) COMPREPLY=($(compgen -W "--deadline" -- "$cur")) ;;
	log) COMPREPLY=($(compgen -W "level error warn info debug" -- "$cur")) ;;
	credentials) COMPREPLY=($(compgen -W "--lifetime --sha256 --ice-servers" -- "$cur")) ;;
	passwd) COMPREPLY=($(compgen -W "--realm --md5" -- "$cur")) ;;
	doctor) COMPREPLY=($(compgen -W "--config --rate --stall" -- "$cur")) ;;
	esac
}
complete -F _turnpikectl turnpikectl
