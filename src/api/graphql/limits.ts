import {
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  GraphQLError,
  type GraphQLField,
  type GraphQLNamedType,
  GraphQLObjectType,
  type GraphQLSchema,
  getArgumentValues,
  getDirectiveValues,
  getNamedType,
  getOperationAST,
  Kind,
  type OperationDefinitionNode,
  type SelectionSetNode,
  visit,
} from 'graphql'

/** What one query may ask for. GraphiQL's introspection is 13 deep, which is for types and not for data. */
export const limits = {
  /** Fields below each other. */
  depth: 14,
  /** Objects in the answer, as far as the query tells. */
  cost: 100_000,
  /** Fields under another name. */
  aliases: 40,
  /** Words and signs of a document. */
  tokens: 4000,
  /** `first` of a page. */
  page: 100,
}

function refuse(message: string, cure: string): never {
  throw new GraphQLError(message, { extensions: { code: 'too-much', cure } })
}

/** Walks an operation once a fragment, with the values of its variables at hand. */
class Meter {
  private readonly schema: GraphQLSchema
  private readonly variables: Record<string, unknown>
  private readonly fragments: Map<string, FragmentDefinitionNode>
  private readonly known = new Map<string, { cost: number; depth: number }>()
  constructor(schema: GraphQLSchema, document: DocumentNode, variables: Record<string, unknown>) {
    this.schema = schema
    this.variables = variables
    const fragments = document.definitions.filter((definition) => definition.kind === Kind.FRAGMENT_DEFINITION)
    this.fragments = new Map(fragments.map((fragment) => [fragment.name.value, fragment]))
  }

  measure(selections: SelectionSetNode, type: GraphQLNamedType | undefined): { cost: number; depth: number } {
    const total = { cost: 0, depth: 0 }
    for (const selection of selections.selections) {
      const part =
        selection.kind === Kind.FIELD
          ? this.field(selection, type)
          : selection.kind === Kind.INLINE_FRAGMENT
            ? this.measure(selection.selectionSet, this.condition(selection.typeCondition?.name.value, type))
            : this.fragment(selection.name.value)
      total.cost += part.cost
      total.depth = Math.max(total.depth, part.depth)
    }
    return total
  }

  private condition(name: string | undefined, type: GraphQLNamedType | undefined) {
    return name === undefined ? type : this.schema.getType(name)
  }

  private fragment(name: string): { cost: number; depth: number } {
    const known = this.known.get(name)
    if (known) return known
    const fragment = this.fragments.get(name)
    if (!fragment) return { cost: 0, depth: 0 }
    const measured = this.measure(fragment.selectionSet, this.schema.getType(fragment.typeCondition.name.value))
    this.known.set(name, measured)
    return measured
  }

  private field(node: FieldNode, type: GraphQLNamedType | undefined): { cost: number; depth: number } {
    if (!node.selectionSet) return { cost: 0, depth: 1 }
    const field = type instanceof GraphQLObjectType ? type.getFields()[node.name.value] : undefined
    const inner = this.measure(node.selectionSet, field && getNamedType(field.type))
    return { cost: this.factor(node, field) * (1 + inner.cost), depth: 1 + inner.depth }
  }

  /** How many objects a field answers: what its arguments say, or what is usual. */
  private factor(node: FieldNode, field: GraphQLField<unknown, unknown> | undefined): number {
    const directive = this.schema.getDirective('cost')
    const rule = field?.astNode && directive && getDirectiveValues(directive, field.astNode)
    if (!field || !rule) return 1
    const values = getArgumentValues(field, node, this.variables)
    const times = typeof rule.times === 'string' ? values[rule.times] : 1
    const { names } = values
    const assumed = Array.isArray(names) ? names.length : typeof rule.assumed === 'number' ? rule.assumed : 1
    return Math.max(typeof times === 'number' ? times : 1, 1) * assumed
  }
}

function isIntrospection(operation: OperationDefinitionNode): boolean {
  return operation.selectionSet.selections.every(
    (selection) => selection.kind === Kind.FIELD && selection.name.value.startsWith('__'),
  )
}

/**
 * Throws where a validated operation asks for more than one query may: too deep, too many objects, too many aliases.
 * Its variables are known here, which a validation rule's are not, so `first: $n` counts as what it is.
 */
export function limitQuery(
  schema: GraphQLSchema,
  document: DocumentNode,
  variables: Record<string, unknown> = {},
  operationName?: string | null,
): void {
  const operation = getOperationAST(document, operationName)
  if (!operation || isIntrospection(operation)) return
  let aliases = 0
  visit(document, {
    Field(node) {
      if (node.alias) aliases++
    },
  })
  if (aliases > limits.aliases)
    refuse(`the query has ${aliases} aliases and may have ${limits.aliases}`, 'ask in several queries')
  const root = schema.getRootType(operation.operation) ?? undefined
  const { cost, depth } = new Meter(schema, document, variables).measure(operation.selectionSet, root)
  if (depth > limits.depth)
    refuse(`the query is ${depth} deep and may be ${limits.depth}`, 'ask for fewer levels at once')
  if (cost > limits.cost)
    refuse(
      `the query asks for about ${cost} objects and may ask for ${limits.cost}`,
      'lower first, last or maxPoints, or name the metrics you need',
    )
}
